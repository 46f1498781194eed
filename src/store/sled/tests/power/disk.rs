//! A simulated disk after a power cut: synced data is there; other data may be there as a whole, in part, or not at
//! all.
//!
//! The rules are strict. The bytes and the length of a file are durable after `fsync` or `fdatasync` of that file,
//! and a name after `fsync` of its directory, whatever else was synced. `sync_file_range` makes nothing durable.
//! Without a sync, each page of a file independently has the state after any of its writes, and a torn page has so
//! for each sector. The length is that of any moment since the sync. Each change of a name has happened or not.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use bytes::Bytes;
use rand::{RngExt, rngs::StdRng};

use super::trace::{Kind, Step};

const PAGE_BYTES: usize = 4096;
const SECTOR_BYTES: usize = 512;

/// Which syncs have an effect. Leaving one out shows whether the tests detect that.
#[derive(Clone, Copy)]
pub(super) struct Rules {
    pub(super) data_sync: bool,
    pub(super) directory_sync: bool,
}

pub(super) const HONEST: Rules = Rules { data_sync: true, directory_sync: true };

/// The probabilities that data which was not synced is lost.
struct Loss {
    page: f64,
    torn: f64,
    name: f64,
}

type NodeNumber = usize;
type Names = BTreeMap<String, NodeNumber>;

/// Files and directories, each with its durable and other content.
pub(super) struct Disk {
    rules: Rules,
    nodes: BTreeMap<NodeNumber, Node>,
    next: NodeNumber,
}

enum Node {
    File(Contents),
    Directory(Entries),
}

#[derive(Default)]
struct Contents {
    durable: Vec<u8>,
    pending: Vec<Change>,
}

enum Change {
    Write(usize, Bytes),
    Resize(usize),
}

#[derive(Default)]
struct Entries {
    durable: Names,
    now: Names,
    pending: Vec<Naming>,
}

#[derive(Clone)]
enum Naming {
    Set(String, NodeNumber),
    Remove(String),
    Move(String, String, NodeNumber),
}

const ROOT: NodeNumber = 0;

impl Disk {
    /// A disk with the content of a directory, all durable.
    pub(super) fn load(dir: &Path, rules: Rules) -> Self {
        let mut disk = Self { rules, nodes: BTreeMap::new(), next: ROOT };
        disk.load_node(dir);
        disk
    }

    fn load_node(&mut self, path: &Path) -> NodeNumber {
        let number = self.next;
        self.next += 1;
        let node = if path.is_dir() {
            let mut durable = Names::new();
            for entry in fs::read_dir(path).unwrap().map(Result::unwrap) {
                let name = entry.file_name().into_string().unwrap();
                durable.insert(name, self.load_node(&entry.path()));
            }
            Node::Directory(Entries { now: durable.clone(), durable, pending: Vec::new() })
        } else {
            Node::File(Contents { durable: fs::read(path).unwrap(), pending: Vec::new() })
        };
        self.nodes.insert(number, node);
        number
    }

    /// Applies a recorded call.
    pub(super) fn apply(&mut self, step: &Step) {
        let path = step.path.as_str();
        match step.kind {
            Kind::Create => self.add(path, Node::File(Contents::default())),
            Kind::Mkdir => self.add(path, Node::Directory(Entries::default())),
            Kind::Write => {
                self.file(path).pending.push(Change::Write(step.offset, step.data.clone()));
            }
            Kind::Truncate => self.file(path).pending.push(Change::Resize(step.offset)),
            Kind::Unlink | Kind::Rmdir => {
                let (parent, name) = self.place(path);
                parent.change(Naming::Remove(name));
            }
            Kind::Rename => {
                let (_, to) = self.place(&step.other);
                let number = self.find(path);
                let (parent, from) = self.place(path);
                assert_eq!(path.strip_suffix(&from), step.other.strip_suffix(&to));
                parent.change(Naming::Move(from, to, number));
            }
            Kind::Sync => self.sync(path, true),
            Kind::DataSync => self.sync(path, self.rules.data_sync),
            Kind::RangeSync | Kind::Mark => {}
        }
    }

    fn add(&mut self, path: &str, node: Node) {
        let number = self.next;
        self.next += 1;
        self.nodes.insert(number, node);
        let (parent, name) = self.place(path);
        parent.change(Naming::Set(name, number));
    }

    fn sync(&mut self, path: &str, effective: bool) {
        let effective_for_names = effective && self.rules.directory_sync;
        let number = self.find(path);
        match self.nodes.get_mut(&number).unwrap() {
            Node::File(contents) if effective => {
                contents.durable = contents.now();
                contents.pending.clear();
            }
            Node::Directory(entries) if effective_for_names => {
                entries.durable = entries.now.clone();
                entries.pending.clear();
                self.forget_unreachable();
            }
            _ => {}
        }
    }

    /// Removes files and directories without any name, durable or not.
    fn forget_unreachable(&mut self) {
        let mut reached = BTreeSet::new();
        let mut open = vec![ROOT];
        while let Some(number) = open.pop() {
            if reached.insert(number)
                && let Node::Directory(entries) = &self.nodes[&number]
            {
                open.extend(entries.durable.values().chain(entries.now.values()));
                open.extend(entries.pending.iter().filter_map(Naming::node));
            }
        }
        self.nodes.retain(|number, _| reached.contains(number));
    }

    fn find(&self, path: &str) -> NodeNumber {
        path.split('/').filter(|name| !name.is_empty()).fold(ROOT, |number, name| {
            match &self.nodes[&number] {
                Node::Directory(entries) => {
                    *entries.now.get(name).unwrap_or_else(|| panic!("{path} was not recorded"))
                }
                Node::File(_) => panic!("{path} leads through a file"),
            }
        })
    }

    fn file(&mut self, path: &str) -> &mut Contents {
        let number = self.find(path);
        match self.nodes.get_mut(&number).unwrap() {
            Node::File(contents) => contents,
            Node::Directory(_) => panic!("{path} is a directory"),
        }
    }

    /// The directory of a path, and the name in it.
    fn place(&mut self, path: &str) -> (&mut Entries, String) {
        let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
        let number = self.find(parent);
        match self.nodes.get_mut(&number).unwrap() {
            Node::Directory(entries) => (entries, name.to_owned()),
            Node::File(_) => panic!("{parent} is a file"),
        }
    }

    /// Writes the content below a path after a power cut.
    pub(super) fn cut(&self, path: &str, target: &Path, random: &mut StdRng) {
        let mut one_of = |choices: &[f64]| choices[random.random_range(0..choices.len())];
        let loss = Loss {
            page: one_of(&[0.0, 0.02, 0.3, 0.7, 1.0]),
            torn: one_of(&[0.0, 0.5]),
            name: one_of(&[0.0, 0.5, 1.0]),
        };
        self.cut_node(self.find(path), target, &loss, random);
    }

    fn cut_node(&self, number: NodeNumber, target: &Path, loss: &Loss, random: &mut StdRng) {
        match &self.nodes[&number] {
            Node::File(contents) => fs::write(target, contents.after_cut(loss, random)).unwrap(),
            Node::Directory(entries) => {
                fs::create_dir(target).unwrap();
                for (name, number) in entries.after_cut(loss, random) {
                    self.cut_node(number, &target.join(name), loss, random);
                }
            }
        }
    }

    /// Checks that a directory has the same content as this disk without a power cut.
    pub(super) fn assert_same(&self, path: &str, dir: &Path) {
        self.assert_same_node(self.find(path), dir);
    }

    fn assert_same_node(&self, number: NodeNumber, path: &Path) {
        let shown = path.display();
        match &self.nodes[&number] {
            Node::File(contents) => {
                assert!(
                    contents.now() == fs::read(path).unwrap(),
                    "{shown} was not recorded whole"
                );
            }
            Node::Directory(entries) => {
                let found: BTreeSet<_> = fs::read_dir(path)
                    .unwrap()
                    .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                    .collect();
                assert!(entries.now.keys().eq(&found), "{shown} was not recorded whole");
                for (name, number) in &entries.now {
                    self.assert_same_node(*number, &path.join(name));
                }
            }
        }
    }
}

impl Naming {
    fn apply(self, names: &mut Names) {
        match self {
            Self::Set(name, number) => {
                names.insert(name, number);
            }
            Self::Remove(name) => {
                names.remove(&name);
            }
            Self::Move(from, to, number) => {
                names.remove(&from);
                names.insert(to, number);
            }
        }
    }

    fn node(&self) -> Option<&NodeNumber> {
        match self {
            Self::Set(_, number) | Self::Move(_, _, number) => Some(number),
            Self::Remove(_) => None,
        }
    }
}

impl Entries {
    fn change(&mut self, naming: Naming) {
        naming.clone().apply(&mut self.now);
        self.pending.push(naming);
    }

    fn after_cut(&self, loss: &Loss, random: &mut StdRng) -> Names {
        let mut names = self.durable.clone();
        for naming in &self.pending {
            if !random.random_bool(loss.name) {
                naming.clone().apply(&mut names);
            }
        }
        names
    }
}

impl Contents {
    fn now(&self) -> Vec<u8> {
        let mut bytes = self.durable.clone();
        for change in &self.pending {
            match change {
                Change::Write(offset, data) => {
                    let end = offset + data.len();
                    bytes.resize(bytes.len().max(end), 0);
                    bytes[*offset..end].copy_from_slice(data);
                }
                Change::Resize(length) => bytes.resize(*length, 0),
            }
        }
        bytes
    }

    fn after_cut(&self, loss: &Loss, random: &mut StdRng) -> Vec<u8> {
        let count = self.pending.len();
        // The length is the one after this many changes.
        let lengthened = match random.random_range(0..3) {
            0 => 0,
            1 => count,
            _ => random.random_range(0..=count),
        };
        let mut bytes = self.durable.clone();
        let mut length = bytes.len();
        let mut writes: BTreeMap<usize, Vec<(usize, &Bytes)>> = BTreeMap::new();
        for (nth, change) in self.pending.iter().enumerate() {
            match change {
                Change::Write(offset, data) => {
                    if nth < lengthened {
                        length = length.max(offset + data.len());
                    }
                    for page in offset / PAGE_BYTES..(offset + data.len()).div_ceil(PAGE_BYTES) {
                        writes.entry(page).or_default().push((*offset, data));
                    }
                }
                // Earlier writes beyond a new length are lost once it or a later length is durable. Later writes are
                // lost as long as it is not durable.
                Change::Resize(to) if nth < lengthened => {
                    bytes.resize(*to, 0);
                    length = *to;
                    writes.split_off(&to.div_ceil(PAGE_BYTES));
                }
                Change::Resize(_) => break,
            }
        }
        bytes.resize(length, 0);
        for (page, writes) in writes {
            let start = page * PAGE_BYTES;
            if start < length {
                let end = length.min(start + PAGE_BYTES);
                cut_page(&mut bytes[start..end], start, &writes, loss, random);
            }
        }
        bytes
    }
}

/// Sets a page to its state after any number of its writes, or its sectors to two such states.
fn cut_page(
    page: &mut [u8],
    start: usize,
    writes: &[(usize, &Bytes)],
    loss: &Loss,
    random: &mut StdRng,
) {
    let count = writes.len();
    let any = |random: &mut StdRng| match random.random_bool(loss.page) {
        true => random.random_range(0..count),
        false => count,
    };
    let mut old = page.to_vec();
    let applied = any(random);
    overlay(page, start, &writes[..applied]);
    if applied > 0 && random.random_bool(loss.torn * loss.page) {
        let older = random.random_range(0..applied);
        overlay(&mut old, start, &writes[..older]);
        for (sector, old) in page.chunks_mut(SECTOR_BYTES).zip(old.chunks(SECTOR_BYTES)) {
            if random.random_bool(0.5) {
                sector.copy_from_slice(old);
            }
        }
    }
}

fn overlay(page: &mut [u8], start: usize, writes: &[(usize, &Bytes)]) {
    for (offset, data) in writes {
        let from = start.max(*offset);
        let to = (start + page.len()).min(offset + data.len());
        if from < to {
            page[from - start..to - start].copy_from_slice(&data[from - offset..to - offset]);
        }
    }
}
