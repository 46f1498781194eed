//! The mark: the last revision in a file outside etcd. It reveals that etcd's data was restored from a backup while
//! this program was not running.

use std::{
    fs,
    io::{self, ErrorKind},
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::store::{Error, Revision, etcd::options::Options};

/// The file with the last revision and the prefix of the store. Without a path it does nothing.
#[derive(Clone, Debug)]
pub(super) struct Mark {
    path: Option<PathBuf>,
    prefix: String,
    revision: Revision,
}

impl Mark {
    /// Reads the file. It may be absent.
    pub(super) async fn read(options: &Options) -> Result<Self, Error> {
        let (path, prefix) = (options.mark.clone(), options.prefix.clone());
        let none = Self { path: path.clone(), prefix, revision: Revision(0) };
        let Some(path) = path else { return Ok(none) };
        match tokio::fs::read_to_string(&path).await {
            Ok(text) => {
                let (revision, prefix) = parse(&text).ok_or_else(|| {
                    let path = path.display();
                    Error::Damaged(format!("{path} cannot be read; remove it to go on without"))
                })?;
                let own = prefix == none.prefix;
                Ok(if own { Self { revision, ..none } } else { none })
            }
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(none),
            Err(error) => Err(Error::Failed {
                context: format!("reading {}", path.display()),
                source: Arc::new(error),
            }),
        }
    }

    /// The revision that was read.
    pub(super) fn revision(&self) -> Revision {
        self.revision
    }

    /// Returns an error if etcd has no store although the mark says that there was one.
    pub(super) fn may_begin_anew(&self, options: &Options) -> Result<(), Error> {
        let Some(path) = self.path.as_ref().filter(|_| self.revision > Revision(0)) else {
            return Ok(());
        };
        Err(Error::Damaged(format!(
            "nothing is below {} in etcd at {}, where revision {} was: restore etcd's data, or use `snowglobe snapshot \
             restore`, or remove {} to begin anew",
            self.prefix,
            options.urls(),
            self.revision,
            path.display()
        )))
    }

    /// Writes a revision into the file. It blocks the thread.
    pub(super) fn write(&self, revision: Revision) -> io::Result<()> {
        let Some(path) = &self.path else { return Ok(()) };
        let next = path.with_extension("next");
        fs::write(&next, format!("{revision} {}\n", self.prefix))?;
        fs::rename(&next, path)
    }

    pub(super) fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }
}

fn parse(text: &str) -> Option<(Revision, &str)> {
    let (revision, prefix) = text.strip_suffix('\n')?.split_once(' ')?;
    Some((Revision(revision.parse().ok()?), prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_is_remembered_per_prefix() {
        let dir = tempfile::TempDir::new().unwrap();
        let path = dir.path().join("etcd-revision");
        let mut options: Options = "etcd://a:1/one".parse().unwrap();
        options.mark = Some(path.clone());
        let mark = Mark::read(&options).await.unwrap();
        mark.may_begin_anew(&options).unwrap();
        mark.write(Revision(7)).unwrap();
        let mark = Mark::read(&options).await.unwrap();
        assert_eq!(mark.revision(), Revision(7));
        let refused = mark.may_begin_anew(&options).unwrap_err().to_string();
        assert!(refused.contains("revision 7") && refused.contains("etcd-revision"), "{refused}");
        options.prefix = "/two".to_owned();
        assert_eq!(Mark::read(&options).await.unwrap().revision(), Revision(0));
        fs::write(&path, "7").unwrap();
        assert!(matches!(Mark::read(&options).await, Err(Error::Damaged(_))));
    }
}
