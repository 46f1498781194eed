//! Power cuts at random moments. No acknowledged commit may be lost, and the store must open and accept writes.
//!
//! The calls of a process that works on a store are recorded (`recorder.c`, `trace`). From the calls up to a power
//! cut follows what the disk may contain (`disk`). The store is opened on such an image and compared with what was
//! acknowledged until then (`workload`). The next process is recorded while it recovers such an image.

mod disk;
mod trace;
mod workload;

use std::{
    collections::BTreeMap,
    env,
    fs::{self, OpenOptions},
    io::Write,
    panic::AssertUnwindSafe,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
};

use futures::FutureExt;
use parking_lot::Mutex;
use rand::{RngExt, SeedableRng, rngs::StdRng};
use tempfile::TempDir;
use tokio::task::JoinSet;

use crate::store::{
    Revision, Store,
    sled::{
        Sled,
        tests::{SMALL, damage::copy, everything, put},
    },
};

use disk::{Disk, HONEST, Rules};
use trace::{DATA, Kind, MARKS, Recorder, Step};
use workload::{Counts, WRITERS, Writer};

/// The number of power cuts, for longer campaigns.
const CUTS: &str = "SNOWGLOBE_STORE_TEST_POWER_CUTS";
const CUTS_DEFAULT: usize = 50;
/// Tells the recorded process its directory and the numbers of commits that its writers have made.
const ROOT: &str = "SNOWGLOBE_STORE_TEST_POWER_ROOT";
const FROM: &str = "SNOWGLOBE_STORE_TEST_POWER_FROM";
const COMMITS_TOGETHER: u32 = 15;
const COMMITS_ALONE: u32 = 10;
const CUTS_PER_RECORD: usize = 12;
/// A batch with this many unsynced writes is one that sled writes in several parts.
const LARGE_BATCH_WRITES: u32 = 4;
const OPENED: &str = "opened";

/// The process that is recorded: opens the store, commits, and marks what was acknowledged.
#[tokio::test]
async fn recorded_child() {
    let Some(root) = env::var_os(ROOT).map(PathBuf::from) else {
        return;
    };
    let from = env::var(FROM).unwrap();
    let marks = OpenOptions::new().append(true).create(true).open(root.join(MARKS)).unwrap();
    let marks = Arc::new(Mutex::new(marks));
    let mark = move |text: String| marks.lock().write_all(text.as_bytes()).unwrap();
    let store = Arc::new(Sled::open_tuned(&root.join(DATA), SMALL).unwrap());
    mark(OPENED.to_owned());
    let work = |number: usize, mut writer: Writer, commits: u32| {
        let (store, mark) = (Arc::clone(&store), mark.clone());
        async move {
            for _ in 0..commits {
                let revision = writer.commit(&*store).await.unwrap();
                mark(format!("{number} {} {revision}", writer.count()));
                if writer.count().is_multiple_of(40) {
                    store.compact(revision).await.unwrap();
                }
            }
            (number, writer)
        }
    };
    let mut together = JoinSet::new();
    for (number, from) in from.split(' ').enumerate() {
        let writer = Writer::after(number, from.parse().unwrap());
        together.spawn(work(number, writer, COMMITS_TOGETHER));
    }
    // A single commit is written in another way than a group.
    for (number, writer) in together.join_all().await {
        work(number, writer, COMMITS_ALONE).await;
    }
}

/// What was acknowledged before the power cut.
#[derive(Clone, Default)]
struct Acknowledged {
    counts: Counts,
    last: Revision,
    revisions: BTreeMap<(usize, u32), Revision>,
}

impl Acknowledged {
    fn read(&mut self, step: &Step) {
        if step.kind != Kind::Mark || step.data == OPENED {
            return;
        }
        let mark = str::from_utf8(&step.data).unwrap();
        let words: Vec<u64> = mark.split(' ').filter_map(|word| word.parse().ok()).collect();
        let [writer, count, revision] = words[..] else {
            panic!("{mark}");
        };
        let (writer, count) = (usize::try_from(writer).unwrap(), u32::try_from(count).unwrap());
        assert_eq!(count, self.counts[writer] + 1);
        self.counts[writer] = count;
        let other = self.revisions.insert((writer, count), Revision(revision));
        assert!(other.is_none());
        self.last = self.last.max(Revision(revision));
    }
}

/// Opens the store after a power cut and checks it. Returns the content of each writer.
async fn judge(dir: &Path, told: &Acknowledged) -> Result<Acknowledged, String> {
    let store = Sled::open_tuned(dir, SMALL).map_err(|error| error.to_string())?;
    let (_, revision, _) = everything(&store).await;
    if revision < told.last {
        return Err(format!("{revision} is the last revision, {} was acknowledged", told.last));
    }
    let mut found = told.clone();
    found.last = revision;
    for number in 0..WRITERS {
        let count = told.counts[number];
        let prefix = Writer::after(number, count).prefix();
        let (records, _) = store.list(prefix.as_bytes(), None).await.unwrap();
        let matching = [count, count + 1].into_iter().find(|count| {
            let expected = Writer::after(number, *count).expected();
            records.len() == expected.len()
                && records
                    .iter()
                    .zip(expected)
                    .all(|(record, (key, (_, value)))| record.key == key && record.value == value)
        });
        let Some(matching) = matching else {
            let keys: Vec<_> =
                records.iter().map(|r| (&r.key, r.value.len(), r.revision)).collect();
            return Err(format!("writer {number} has {keys:?} after {count} commits"));
        };
        found.counts[number] = matching;
        for (record, (_, (count, _))) in
            records.iter().zip(Writer::after(number, matching).expected())
        {
            let known = *found.revisions.entry((number, count)).or_insert(record.revision);
            if known != record.revision {
                return Err(format!("commit {count} of writer {number} was revision {known}"));
            }
        }
    }
    let mut revisions: Vec<_> = found.revisions.values().collect();
    revisions.sort_unstable();
    if revisions.windows(2).any(|pair| pair[0] == pair[1]) {
        return Err("a revision was used twice".to_owned());
    }
    let next = put(&store, &["after"], b"1").await.map_err(|error| error.to_string())?;
    if next != Revision(revision.0 + 1) {
        return Err(format!("revision {next} follows {revision}"));
    }
    Ok(found)
}

/// Where in a recording the power is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    /// While the store is opened. After a power cut this is a recovery.
    Opening,
    /// While data moves to a new generation.
    Moving,
    /// While a batch is written that is too large for one write.
    LargeBatch,
    Running,
}

/// The phase of each step of a recording.
fn phases(steps: &[Step]) -> Vec<Phase> {
    let mut phase = Phase::Opening;
    let mut opened = false;
    let mut writes = 0;
    steps
        .iter()
        .map(|step| {
            let generation = step.path.rsplit('/').next().is_some_and(|n| n.starts_with("gen-"));
            match step.kind {
                Kind::Mark if step.data == OPENED => (opened, phase) = (true, Phase::Running),
                Kind::Mkdir if opened && generation => phase = Phase::Moving,
                Kind::Write => writes += 1,
                Kind::DataSync => writes = 0,
                _ => {}
            }
            let now = match phase {
                Phase::Running if writes >= LARGE_BATCH_WRITES => Phase::LargeBatch,
                other => other,
            };
            if step.kind == Kind::Rmdir && opened && generation {
                phase = Phase::Running;
            }
            now
        })
        .collect()
}

/// Chooses a quarter of the cuts in each of the short phases and the others anywhere. Returns them in order.
fn choose(phases: &[Phase], count: usize, random: &mut StdRng) -> Vec<usize> {
    let of = |wanted| -> Vec<usize> {
        (0..phases.len()).filter(|step| phases[*step] == wanted).collect()
    };
    let quick = [of(Phase::Opening), of(Phase::Moving), of(Phase::LargeBatch)];
    let mut cuts: Vec<_> = (0..count)
        .map(|nth| match quick.get(nth % 4).filter(|steps| !steps.is_empty()) {
            Some(steps) => steps[random.random_range(0..steps.len())],
            None => random.random_range(0..phases.len()),
        })
        .collect();
    cuts.sort_unstable();
    cuts
}

struct Campaign {
    place: TempDir,
    recorder: Recorder,
    rules: Rules,
    random: StdRng,
    cuts: BTreeMap<Phase, usize>,
    failures: Vec<String>,
}

/// The image of a disk after a power cut, and its content.
struct Image {
    dir: PathBuf,
    told: Acknowledged,
}

impl Campaign {
    /// Makes this many power cuts.
    async fn run(count: usize, rules: Rules) -> Self {
        let place = TempDir::new().unwrap();
        let recorder = Recorder::build(place.path());
        let random = StdRng::seed_from_u64(u64::try_from(count).unwrap());
        let (cuts, failures) = (BTreeMap::new(), Vec::new());
        let mut campaign = Self { place, recorder, rules, random, cuts, failures };
        let mut left = count;
        let mut image = None;
        while left > 0 {
            let cuts = left.min(CUTS_PER_RECORD);
            left -= cuts;
            image = campaign.round(image, cuts).await;
        }
        campaign
    }

    /// Records a process with a new store or an image, and cuts the power at this many of its steps. Returns one of
    /// the valid images.
    async fn round(&mut self, start: Option<Image>, cuts: usize) -> Option<Image> {
        let root = self.place.path().join("root");
        fs::create_dir(&root).unwrap();
        let mut told = Acknowledged::default();
        match start {
            Some(image) => {
                fs::rename(image.dir, root.join(DATA)).unwrap();
                told = image.told;
            }
            None => fs::create_dir(root.join(DATA)).unwrap(),
        }
        let mut disk = Disk::load(&root, self.rules);
        let steps = self.record(&root, &told.counts);
        let phases = phases(&steps);
        let cuts = choose(&phases, cuts, &mut self.random);
        let keep = self.random.random_range(0..cuts.len());
        let mut kept = None;
        let mut done = 0;
        for (nth, cut) in cuts.into_iter().enumerate() {
            for step in &steps[done..cut] {
                disk.apply(step);
                told.read(step);
            }
            done = cut;
            let found = self.cut(&disk, &told, nth == keep).await;
            *self.cuts.entry(phases[cut]).or_default() += 1;
            match found {
                Ok(image) => kept = image.or(kept),
                Err(what) => {
                    let (phase, before, count) = (phases[cut], &steps[cut], steps.len());
                    let Step { kind, path, .. } = before;
                    let at = format!("{phase:?}, at {cut} of {count}, before {kind:?} of {path}");
                    self.failures.push(format!("{at}: {what}"));
                }
            }
        }
        steps[done..].iter().for_each(|step| disk.apply(step));
        disk.assert_same(DATA, &root.join(DATA));
        fs::remove_dir_all(&root).unwrap();
        kept
    }

    fn record(&self, root: &Path, from: &Counts) -> Vec<Step> {
        let mut command = Command::new(env::current_exe().unwrap());
        command
            .args(["--exact", "store::sled::tests::power::recorded_child", "--nocapture"])
            .env(ROOT, root)
            .env(FROM, from.map(|count| count.to_string()).join(" "));
        self.recorder.record(root, &mut command)
    }

    /// Cuts the power and checks the result. Returns a copy of it if `keep` is set.
    async fn cut(
        &mut self,
        disk: &Disk,
        told: &Acknowledged,
        keep: bool,
    ) -> Result<Option<Image>, String> {
        let image = self.place.path().join("image");
        disk.cut(DATA, &image, &mut self.random);
        let kept = keep.then(|| self.place.path().join("kept"));
        if let Some(kept) = &kept {
            copy(&image, kept);
        }
        let verdict = AssertUnwindSafe(judge(&image, told)).catch_unwind().await;
        let verdict = verdict.unwrap_or_else(|_| Err("a panic".to_owned()));
        fs::remove_dir_all(&image).unwrap();
        if let (Err(_), Some(kept)) = (&verdict, &kept) {
            fs::remove_dir_all(kept).unwrap();
        }
        let there = verdict?;
        Ok(kept.map(|dir| Image { dir, told: there }))
    }
}

#[tokio::test]
async fn a_power_cut_loses_nothing() {
    let count = env::var(CUTS).ok().map_or(CUTS_DEFAULT, |text| text.parse().unwrap());
    let campaign = Campaign::run(count, HONEST).await;
    println!("{count} power cuts: {:?}", campaign.cuts);
    let failures = &campaign.failures;
    assert!(failures.is_empty(), "{} of {count}:\n{}", failures.len(), failures.join("\n"));
    assert!(campaign.cuts.len() == 4, "cuts in every phase: {:?}", campaign.cuts);
}

/// The campaign fails if a kind of sync is missing.
#[tokio::test]
async fn a_missing_sync_is_noticed() {
    for (name, rules) in [
        ("data", Rules { data_sync: false, ..HONEST }),
        ("directory", Rules { directory_sync: false, ..HONEST }),
    ] {
        let campaign = Campaign::run(CUTS_PER_RECORD, rules).await;
        assert!(!campaign.failures.is_empty(), "no {name} sync");
        println!("no {name} sync:\n{}", campaign.failures.join("\n"));
    }
}
