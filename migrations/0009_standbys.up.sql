-- Who could take a deployment over.
CREATE TABLE standbys (
    name TEXT NOT NULL,
    holder TEXT NOT NULL,
    expires_at TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (name, holder)
);
