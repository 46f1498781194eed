use std::fs::{File, OpenOptions};

use tempfile::TempDir;

use crate::store::Expect;

use super::*;

fn commit(committer: &mut Committer, key: &'static str) -> Result<Revision, Error> {
    let (reply, mut answer) = oneshot::channel();
    let (key, value) = (Bytes::from_static(key.as_bytes()), Some(Bytes::from_static(b"1")));
    committer.commit(vec![Request {
        writes: vec![Write { key, expect: Expect::Absent, value }],
        reply,
    }]);
    answer.try_recv().unwrap()
}

#[test]
fn a_high_water_mark_that_cannot_be_raised_stops_writes() {
    let dir = TempDir::new().unwrap();
    let mut committer = Committer::open(dir.path(), Tuning::default()).unwrap();
    assert_eq!(commit(&mut committer, "a").unwrap(), Revision(1));
    let path = committer.directory.high_water();
    drop(committer.high_water.replace_file(File::open(&path).unwrap()));
    let error = commit(&mut committer, "b").unwrap_err();
    assert!(matches!(&error, Error::Failed { context, .. } if context.contains("high-water")));
    let error = commit(&mut committer, "c").unwrap_err();
    assert!(matches!(&error, Error::Stopped(text) if text.contains("high-water")), "{error}");
    assert!(committer.has_stopped() && committer.index.ended().is_none(), "reads go on");
    assert_eq!(committer.index.revision(), Revision(1));
    drop(committer);
    // The second commit was not acknowledged. It is there as a whole or not at all.
    let committer = Committer::open(dir.path(), Tuning::default()).unwrap();
    assert_eq!(committer.index.revision(), Revision(2));
}

#[test]
fn a_high_water_mark_without_room_is_raised_later() {
    let dir = TempDir::new().unwrap();
    let mut committer = Committer::open(dir.path(), Tuning::default()).unwrap();
    let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
    let file = committer.high_water.replace_file(full);
    assert_eq!(commit(&mut committer, "a").unwrap(), Revision(1), "it is durable");
    for _ in 0..2 {
        assert!(matches!(commit(&mut committer, "b"), Err(Error::Full(_))));
    }
    drop(committer.high_water.replace_file(file));
    assert_eq!(commit(&mut committer, "b").unwrap(), Revision(2));
    let mark = HighWater::open(&committer.directory.high_water()).unwrap().unwrap();
    assert_eq!(mark.revision(), Revision(2));
}
