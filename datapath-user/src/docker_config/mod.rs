//! Docker's `daemon.json`: what it has to say for this program to do Docker's part, and the way back.

mod file;
mod text;

use std::{
    io,
    path::{Path, PathBuf},
};

use serde_json::Value;

pub use self::text::Malformed;
use crate::processes::{self, Process};

/// Where dockerd looks for it when nobody says otherwise.
pub const DEFAULT_PATH: &str = "/etc/docker/daemon.json";
/// What the file says: the engine writes no rules, and starts no proxy.
pub const FLAGS: [&str; 3] = ["iptables", "ip6tables", "userland-proxy"];
/// What follows the file's name in the name of its backup.
const BACKUP: &str = ".before-datapath";

/// What keeps the file from being changed: then nothing has changed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It is not JSON.
    #[error("{}:{fault}; mend it first: dockerd does not start with it either", .path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        fault: Malformed,
    },
    /// It cannot be read or written.
    #[error("{}: {error}", .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// The engine's command line says the contrary.
    #[error(
        "dockerd (process {pid}) runs with --{flag}={value} on its command line, and does not start when the file says \
         it too; take the flag out of its unit (`systemctl edit docker.service`) first"
    )]
    Contradicted {
        /// The process.
        pid: u32,
        /// The flag.
        flag: &'static str,
        /// Its value.
        value: String,
    },
    /// The engine is to keep containers apart, which it does by iptables.
    #[error(
        "{0}: icc is false, and dockerd does not start where iptables is, too; take it out there, and say it in datapath's \
         own configuration: a [[network]] with bridge = \"docker0\", its subnets, and icc = false"
    )]
    KeepsApart(String),
    /// There is no backup.
    #[error("{}: no such backup: nothing was changed by this command, or it was undone already", .0.display())]
    NoBackup(PathBuf),
}

/// A change of the file, not made yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The file, symbolic links followed.
    pub path: PathBuf,
    /// Where its backup is.
    pub backup: PathBuf,
    /// Its text; `None` where there is none.
    pub before: Option<String>,
    /// Its text after the change; `None` where it is removed.
    pub after: Option<String>,
}

/// The file that a running dockerd reads, or else the usual one.
#[must_use]
pub fn path() -> PathBuf {
    let running = engines();
    let named = running.iter().find_map(|engine| engine.flag("config-file"));
    PathBuf::from(named.unwrap_or(DEFAULT_PATH))
}

/// The engines that run here.
#[must_use]
pub fn engines() -> Vec<Process> {
    processes::named("dockerd")
}

/// The flags that the file lacks, of those that `engines` have not on their command lines.
///
/// # Errors
/// When the file cannot be read, or it or a command line says what cannot be beside them.
pub fn lacking(path: &Path, engines: &[Process]) -> Result<Vec<&'static str>, Error> {
    let said =
        text::parse(&read(path)?.unwrap_or_default()).map_err(|fault| malformed(path, fault))?;
    let mut lacking = Vec::new();
    for flag in FLAGS {
        let engine = engines
            .iter()
            .find_map(|engine| Some((engine.pid, engine.flag(flag)?)));
        match engine {
            Some((_, value)) if is_false(value) => {}
            Some((pid, value)) => {
                let value = value.to_owned();
                return Err(Error::Contradicted { pid, flag, value });
            }
            None if said.get(flag) == Some(&Value::Bool(false)) => {}
            None => lacking.push(flag),
        }
    }
    let mut apart = engines
        .iter()
        .filter(|engine| engine.flag("icc").is_some_and(is_false));
    if let Some(engine) = apart.next() {
        let place = format!("the command line of dockerd (process {})", engine.pid);
        return Err(Error::KeepsApart(place));
    }
    if said.get("icc") == Some(&Value::Bool(false)) {
        return Err(Error::KeepsApart(path.display().to_string()));
    }
    Ok(lacking)
}

/// As Go reads it (strconv, `ParseBool`).
fn is_false(value: &str) -> bool {
    matches!(value, "false" | "0" | "f" | "F" | "False" | "FALSE")
}

impl Change {
    /// What makes the file say what it should.
    ///
    /// # Errors
    /// When it cannot be read, is no JSON, or a running engine says the contrary.
    pub fn apply(path: &Path) -> Result<Self, Error> {
        let flags = lacking(path, &engines())?;
        let (path, before) = open(path)?;
        let edits: Vec<_> = flags
            .into_iter()
            .map(|flag| (flag, Some(Value::Bool(false))))
            .collect();
        let mut after = before.clone();
        if !edits.is_empty() {
            let text = text::edit(before.as_deref().unwrap_or_default(), &edits);
            after = Some(text.map_err(|fault| malformed(&path, fault))?);
        }
        Ok(Self {
            backup: backup(&path),
            path,
            before,
            after,
        })
    }

    /// What makes it say what it said before: to the letter, if nobody changed it since; else the flags alone are as
    /// they were.
    ///
    /// # Errors
    /// When there is no backup, or a file cannot be read or is no JSON.
    pub fn undo(path: &Path) -> Result<Self, Error> {
        let (path, before) = open(path)?;
        let backup = backup(&path);
        let Some(original) = read(&backup)? else {
            return Err(Error::NoBackup(backup));
        };
        let former = text::parse(&original).map_err(|fault| malformed(&backup, fault))?;
        let edits: Vec<_> = FLAGS
            .into_iter()
            .map(|flag| (flag, former.get(flag).cloned()))
            .collect();
        let undone = text::edit(before.as_deref().unwrap_or_default(), &edits)
            .map_err(|fault| malformed(&path, fault))?;
        let same = text::parse(&undone).is_ok_and(|object| object == former);
        let after = if same { original } else { undone };
        Ok(Self {
            path,
            backup,
            before,
            // An empty backup stands for no file.
            after: (!after.is_empty()).then_some(after),
        })
    }

    /// Whether there is anything to do.
    #[must_use]
    pub fn changes_nothing(&self) -> bool {
        self.before == self.after
    }

    /// Makes the change, and keeps what was there as the backup. An older backup gets a number.
    ///
    /// # Errors
    /// When a file cannot be written; the file itself is as it was then.
    pub fn keep_and_write(&self) -> Result<(), Error> {
        if read(&self.backup)?.is_some() {
            let free = (1..).map(|number| append(&self.backup, &format!(".{number}")));
            let free = free.into_iter().find(|path| !path.exists());
            let free = free.unwrap_or_else(|| append(&self.backup, ".old"));
            std::fs::rename(&self.backup, &free).map_err(|error| io_error(&self.backup, error))?;
        }
        let before = self.before.as_deref().unwrap_or_default();
        file::replace(&self.backup, before, &self.path)
            .map_err(|error| io_error(&self.backup, error))?;
        self.write()
    }

    /// Makes the change, which takes one back: the backup has done its service.
    ///
    /// # Errors
    /// As [`Change::keep_and_write`].
    pub fn write_and_forget(&self) -> Result<(), Error> {
        self.write()?;
        std::fs::remove_file(&self.backup).map_err(|error| io_error(&self.backup, error))
    }

    fn write(&self) -> Result<(), Error> {
        let written = match &self.after {
            Some(text) => file::replace(&self.path, text, &self.path),
            None if self.before.is_some() => std::fs::remove_file(&self.path),
            None => Ok(()),
        };
        written.map_err(|error| io_error(&self.path, error))
    }
}

fn open(path: &Path) -> Result<(PathBuf, Option<String>), Error> {
    let path = file::resolve(path).map_err(|error| io_error(path, error))?;
    let text = read(&path)?;
    Ok((path, text))
}

fn read(path: &Path) -> Result<Option<String>, Error> {
    file::read(path).map_err(|error| io_error(path, error))
}

fn backup(path: &Path) -> PathBuf {
    append(path, BACKUP)
}

fn append(path: &Path, end: &str) -> PathBuf {
    let mut path = path.as_os_str().to_owned();
    path.push(end);
    path.into()
}

fn malformed(path: &Path, fault: Malformed) -> Error {
    let path = path.to_owned();
    Error::Malformed { path, fault }
}

fn io_error(path: &Path, error: io::Error) -> Error {
    let path = path.to_owned();
    Error::Io { path, error }
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        os::unix::fs::{PermissionsExt as _, symlink},
    };

    use super::*;

    fn engine(arguments: &str) -> Process {
        let arguments = arguments.split(' ').map(str::to_owned).collect();
        Process { pid: 7, arguments }
    }

    #[test]
    fn it_goes_there_and_back_with_mode_and_links_and_every_byte() {
        let dir = tempfile::tempdir().unwrap();
        let (real, link) = (dir.path().join("real.json"), dir.path().join("daemon.json"));
        let text = "{ \"iptables\":  true, \"dns\": [\"192.0.2.1\"] }";
        fs::write(&real, text).unwrap();
        fs::set_permissions(&real, fs::Permissions::from_mode(0o640)).unwrap();
        symlink("real.json", &link).unwrap();
        let change = Change::apply(&link).unwrap();
        assert_eq!(
            fs::read_to_string(&real).unwrap(),
            text,
            "a dry run changes nothing"
        );
        change.keep_and_write().unwrap();
        assert!(link.is_symlink());
        assert_eq!(
            fs::metadata(&real).unwrap().permissions().mode() & 0o777,
            0o640
        );
        let new = fs::read_to_string(&link).unwrap();
        assert_eq!(
            new,
            "{ \"iptables\":  false, \"dns\": [\"192.0.2.1\"], \"ip6tables\": false, \"userland-proxy\": false }"
        );
        assert!(Change::apply(&link).unwrap().changes_nothing());
        Change::undo(&link).unwrap().write_and_forget().unwrap();
        assert_eq!(fs::read_to_string(&link).unwrap(), text);
        assert!(matches!(Change::undo(&link), Err(Error::NoBackup(_))));
        assert_eq!(
            fs::read_dir(dir.path()).unwrap().count(),
            2,
            "something is left"
        );
    }

    #[test]
    fn a_file_that_was_not_there_is_not_there_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("etc/daemon.json");
        Change::apply(&path).unwrap().keep_and_write().unwrap();
        assert!(path.exists());
        Change::undo(&path).unwrap().write_and_forget().unwrap();
        assert!(!path.exists());
    }

    #[test]
    fn what_others_changed_meanwhile_stays() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("daemon.json");
        fs::write(&path, "{\n  \"userland-proxy\": true\n}\n").unwrap();
        Change::apply(&path).unwrap().keep_and_write().unwrap();
        let edited = fs::read_to_string(&path)
            .unwrap()
            .replace("{\n", "{\n  \"debug\": true,\n");
        fs::write(&path, edited).unwrap();
        Change::undo(&path).unwrap().write_and_forget().unwrap();
        assert_eq!(
            fs::read_to_string(&path).unwrap(),
            "{\n  \"debug\": true,\n  \"userland-proxy\": true\n}\n"
        );
    }

    #[test]
    fn an_older_backup_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("daemon.json");
        for text in ["{\"a\": 1}", "{\"a\": 2}", "{\"a\": 3}"] {
            fs::write(&path, text).unwrap();
            Change::apply(&path).unwrap().keep_and_write().unwrap();
        }
        let kept = |end: &str| fs::read_to_string(append(&path, end)).unwrap();
        assert_eq!(kept(".before-datapath"), "{\"a\": 3}");
        assert_eq!(kept(".before-datapath.1"), "{\"a\": 1}");
        assert_eq!(kept(".before-datapath.2"), "{\"a\": 2}");
    }

    #[test]
    fn bad_json_is_refused_with_its_line_and_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("daemon.json");
        fs::write(&path, "{\n  \"a\": 1,\n}").unwrap();
        let error = Change::apply(&path).unwrap_err().to_string();
        assert!(error.contains("daemon.json:3: "), "{error}");
        assert_eq!(fs::read_to_string(&path).unwrap(), "{\n  \"a\": 1,\n}");
    }

    #[test]
    fn the_engines_command_line_counts_too() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("daemon.json");
        let lacking = |arguments| lacking(&path, &[engine(arguments)]);
        assert_eq!(lacking("dockerd -H fd://").unwrap(), FLAGS);
        assert_eq!(
            lacking("dockerd --iptables=false").unwrap(),
            ["ip6tables", "userland-proxy"]
        );
        let error = lacking("dockerd --userland-proxy=true")
            .unwrap_err()
            .to_string();
        assert!(error.contains("--userland-proxy=true"), "{error}");
    }

    #[test]
    fn an_engine_that_would_not_start_is_told_of() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("daemon.json");
        let refused = |arguments| {
            let refused = lacking(&path, &[engine(arguments)]).unwrap_err();
            refused.to_string()
        };
        let said = refused("dockerd --icc=false");
        assert!(said.contains("dockerd (process 7): icc is false"), "{said}");
        fs::write(&path, "{\"icc\": false}").unwrap();
        let said = refused("dockerd");
        assert!(said.contains("daemon.json: icc is false"), "{said}");
        fs::write(&path, "{\"icc\": true}").unwrap();
        assert_eq!(lacking(&path, &[engine("dockerd")]).unwrap(), FLAGS);
    }
}
