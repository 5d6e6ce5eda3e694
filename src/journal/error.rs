//! What can go wrong with the journal, and what a caller should do about it.

/// The journal could not do what was asked. Nothing was changed, but for one doubt: where the connection broke while a
/// commit was under way, [`JournalError::Unavailable`] may hide that it took effect. So look before asking again; asking
/// for the same again is a conflict or harmless, never a second effect.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The database cannot be reached, does not answer in time, or gave up a race too often.
    #[error("the database is unavailable: {0}")]
    Unavailable(String),
    /// A constraint or a guarded transition refused: somebody else did it, or the caller's picture is old.
    #[error("{0}")]
    Conflict(String),
    /// The database's schema is not the one this build was made for.
    #[error("the database has schema {found}, this build needs {expected}: {mend}")]
    SchemaUnknown {
        /// What is there, for people.
        found: String,
        /// What this build embeds.
        expected: String,
        /// What to do about it.
        mend: &'static str,
    },
    /// A stored value is not of its type's form, or a given one does not fit its column.
    #[error("{what} does not fit: {value}")]
    Corrupt {
        /// Which value.
        what: &'static str,
        /// As it was found.
        value: String,
    },
    /// The database refused the statement itself.
    #[error("database, in {transaction}: {source}")]
    Database {
        /// The named transaction.
        transaction: &'static str,
        /// Postgres' or the driver's words.
        source: sqlx::Error,
    },
}

/// What a failure asks of its caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorClass {
    /// Try the same again later.
    Retry,
    /// Read again and decide anew: the same call will fail again.
    LookAgain,
    /// A person must look.
    Terminal,
}

impl JournalError {
    /// What this failure asks of its caller.
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::Unavailable(_) => ErrorClass::Retry,
            Self::Conflict(_) => ErrorClass::LookAgain,
            Self::SchemaUnknown { .. } | Self::Corrupt { .. } | Self::Database { .. } => ErrorClass::Terminal,
        }
    }

    pub(super) fn corrupt(what: &'static str, value: impl ToString) -> Self {
        Self::Corrupt { what, value: value.to_string() }
    }
}

/// What a driver error inside a named transaction amounts to.
pub(super) enum Failure {
    /// Postgres rolled back because of a concurrent transaction: the whole of it may be repeated.
    LostRace(String),
    /// Final for this call.
    Final(JournalError),
}

impl Failure {
    pub(super) fn of(transaction: &'static str, error: TxError) -> Self {
        let source = match error {
            TxError::Journal(error) => return Self::Final(error),
            TxError::Sql(source) => source,
        };
        match &source {
            sqlx::Error::Database(database) => match database.code().as_deref() {
                // serialization_failure, deadlock_detected
                Some("40001" | "40P01") => Self::LostRace(database.message().to_owned()),
                Some(code) if code.starts_with("23") => {
                    let constraint = database.constraint().unwrap_or("unnamed");
                    let message = database.message();
                    Self::Final(JournalError::Conflict(format!("{transaction}: {message} ({constraint})")))
                }
                // connection exceptions, too many connections, operator intervention (shutdown, crash, cancel)
                Some(code) if code.starts_with("08") || code.starts_with("53") || code.starts_with("57") => {
                    Self::Final(JournalError::Unavailable(format!("{transaction}: {}", database.message())))
                }
                _ => Self::Final(JournalError::Database { transaction, source }),
            },
            sqlx::Error::Io(_) | sqlx::Error::Tls(_) | sqlx::Error::PoolTimedOut | sqlx::Error::PoolClosed => {
                Self::Final(JournalError::Unavailable(format!("{transaction}: {source}")))
            }
            _ => Self::Final(JournalError::Database { transaction, source }),
        }
    }
}

impl Failure {
    /// The failure of somebody who does not try again.
    pub(super) fn given_up(self) -> JournalError {
        match self {
            Self::Final(error) => error,
            Self::LostRace(why) => JournalError::Unavailable(why),
        }
    }
}

/// Inside a transaction: the driver's error, not yet judged, or one of our own.
#[derive(Debug)]
pub(super) enum TxError {
    Sql(sqlx::Error),
    Journal(JournalError),
}

impl From<sqlx::Error> for TxError {
    fn from(error: sqlx::Error) -> Self {
        Self::Sql(error)
    }
}

impl From<JournalError> for TxError {
    fn from(error: JournalError) -> Self {
        Self::Journal(error)
    }
}

/// What the body of a transaction answers.
pub(super) type TxResult<T> = std::result::Result<T, TxError>;
