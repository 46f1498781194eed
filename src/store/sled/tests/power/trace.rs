//! Reads the recording of `recorder.c`: the calls of a process on the files of a store, and its marks.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use bytes::{Buf, Bytes};

const RECORDER: &str = include_str!("recorder.c");
/// The data directory of the store, below the recorded root.
pub(super) const DATA: &str = "data";
/// The file below the recorded root to which the process writes its marks, each with one call.
pub(super) const MARKS: &str = "marks";

/// A recorded call that succeeded, or a mark.
#[derive(Debug)]
pub(super) struct Step {
    pub(super) kind: Kind,
    /// The path, relative to the recorded root.
    pub(super) path: String,
    /// The new path of a rename.
    pub(super) other: String,
    pub(super) offset: usize,
    pub(super) data: Bytes,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Create,
    Write,
    Truncate,
    Rename,
    Unlink,
    Mkdir,
    Rmdir,
    Sync,
    DataSync,
    RangeSync,
    Mark,
}

/// The kinds in the order of `recorder.c`. A mark is a write to [`MARKS`]. `None` is a call that cannot be replayed.
const KINDS: [Option<Kind>; 11] = [
    Some(Kind::Create),
    Some(Kind::Write),
    Some(Kind::Truncate),
    Some(Kind::Rename),
    Some(Kind::Unlink),
    Some(Kind::Mkdir),
    Some(Kind::Rmdir),
    Some(Kind::Sync),
    Some(Kind::DataSync),
    Some(Kind::RangeSync),
    None,
];

/// The recorder, compiled.
pub(super) struct Recorder {
    library: PathBuf,
}

impl Recorder {
    pub(super) fn build(dir: &Path) -> Self {
        let library = dir.join("recorder.so");
        let mut compiler = Command::new("cc")
            .args(["-O1", "-shared", "-fPIC", "-x", "c", "-o"])
            .arg(&library)
            .args(["-", "-ldl", "-lpthread"])
            .stdin(Stdio::piped())
            .spawn()
            .expect("the C compiler that Rust links with is there");
        compiler.stdin.take().unwrap().write_all(RECORDER.as_bytes()).unwrap();
        assert!(compiler.wait().unwrap().success(), "the recorder was compiled");
        Self { library }
    }

    /// Runs a command to its end. Returns its calls below `root`.
    pub(super) fn record(&self, root: &Path, command: &mut Command) -> Vec<Step> {
        let file = root.with_extension("trace");
        let output = command
            .env("LD_PRELOAD", &self.library)
            .env("POWER_ROOT", root)
            .env("POWER_TRACE", &file)
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
        let steps = steps(fs::read(&file).unwrap().into());
        fs::remove_file(&file).unwrap();
        steps
    }
}

fn steps(mut trace: Bytes) -> Vec<Step> {
    let mut steps = Vec::new();
    while !trace.is_empty() {
        let kind = KINDS[size(trace.get_u32_ne())];
        let (path_len, other_len) = (trace.get_u32_ne(), trace.get_u32_ne());
        trace.advance(4);
        let (offset, data_len) = (trace.get_u64_ne(), trace.get_u64_ne());
        let mut text = |len| String::from_utf8(trace.split_to(size(len)).to_vec()).unwrap();
        let (path, other) = (text(path_len), text(other_len));
        let data = trace.split_to(size(data_len));
        let kind = kind.unwrap_or_else(|| panic!("the recorder does not know `{path}`"));
        let kind = if path == MARKS { Kind::Mark } else { kind };
        if kind != Kind::Mark || !data.is_empty() {
            steps.push(Step { kind, path, other, offset: size(offset), data });
        }
    }
    steps
}

fn size(number: impl TryInto<usize>) -> usize {
    number.try_into().unwrap_or_else(|_| panic!("no size"))
}
