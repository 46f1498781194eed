//! `snowglobe snapshot`: saves all objects in one file, and restores them.

use std::{
    fs::{self, File, OpenOptions},
    io::ErrorKind,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    pin::Pin,
};

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use futures::{AsyncBufRead, AsyncBufReadExt as _};
use serde_json::json;
use tokio::io::{AsyncWrite, AsyncWriteExt as _};

use crate::{
    app::snapshot::{self, Header},
    cli::{Output, OutputClosed, client::Flags, print},
    config,
};

#[derive(Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Save all objects of a running cluster at one revision
    Save(Save),
    /// Create the data of a new cluster from a saved file; then start it with `snowglobe up`
    Restore(Restore),
}

#[derive(Args)]
struct Save {
    /// File to write, `-` for standard output; it will contain every Secret
    file: PathBuf,
    /// Replace the file if it exists
    #[arg(long)]
    force: bool,
    /// Form of the output
    #[arg(short, long)]
    output: Option<Output>,
    #[command(flatten)]
    cluster: Flags,
}

#[derive(Args)]
struct Restore {
    /// File that `snapshot save` wrote, `-` for standard input
    file: PathBuf,
    /// Data directory of the new cluster; it must be empty or not exist [default: as of `snowglobe up`]
    #[arg(long, env = "SNOWGLOBE_DATA_DIR", value_name = "DIR")]
    data_dir: Option<PathBuf>,
    #[command(flatten)]
    store: config::StoreFlags,
    /// Form of the output
    #[arg(short, long)]
    output: Option<Output>,
}

const PATH: &str = "/apis/snowglobe.dev/v1alpha1/snapshot";
/// The suffix of the file until it is complete.
const PARTIAL: &str = "partial";
/// Only the owner may read the file, because it contains Secrets.
const FILE_MODE: u32 = 0o600;

pub(super) async fn run(arguments: Arguments) -> anyhow::Result<()> {
    match arguments.command {
        Command::Save(arguments) => save(arguments).await,
        Command::Restore(arguments) => restore(arguments).await,
    }
}

async fn save(Save { file, force, output, cluster }: Save) -> anyhow::Result<()> {
    let to_stdout = file == Path::new("-");
    if !to_stdout && !force && file.symlink_metadata().is_ok() {
        bail!("{} exists: choose another file, or replace it with --force", file.display());
    }
    let answer = cluster.connect().await?.download(PATH).await?;
    if to_stdout {
        return copy(answer, tokio::io::stdout()).await.context("the snapshot is not complete");
    }
    let mut partial = file.clone().into_os_string();
    partial.push(format!(".{PARTIAL}"));
    let partial = PathBuf::from(partial);
    let saved = save_as(answer, &partial, &file).await;
    let header = match saved {
        Ok(header) => header,
        Err(error) => {
            // The file may not exist.
            fs::remove_file(&partial).ok();
            return Err(error.context(format!("cannot save to {}", file.display())));
        }
    };
    report("saved", "to", &file.display().to_string(), &header, output)
}

/// Writes a file. It gets its name only after it was checked and is on the disk.
async fn save_as(
    answer: impl AsyncBufRead + Unpin,
    partial: &Path,
    file: &Path,
) -> anyhow::Result<Header> {
    match fs::remove_file(partial) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error.into()),
        _ => {}
    }
    let mut options = OpenOptions::new();
    let written = options.write(true).create_new(true).mode(FILE_MODE).open(partial)?;
    let written = tokio::fs::File::from_std(written);
    copy(answer, written.try_clone().await?).await?;
    written.sync_all().await?;
    let header = snapshot::check(File::open(partial)?).context("what arrived is no snapshot")?;
    fs::rename(partial, file)?;
    let directory = file.parent().filter(|parent| !parent.as_os_str().is_empty());
    File::open(directory.unwrap_or(Path::new(".")))?.sync_all()?;
    Ok(header)
}

async fn copy(
    mut from: impl AsyncBufRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
) -> anyhow::Result<()> {
    loop {
        let bytes = from.fill_buf().await?;
        let count = bytes.len();
        if count == 0 {
            break;
        }
        to.write_all(bytes).await.map_err(|error| match error.kind() {
            ErrorKind::BrokenPipe => OutputClosed.into(),
            _ => anyhow::Error::from(error),
        })?;
        Pin::new(&mut from).consume(count);
    }
    Ok(to.flush().await?)
}

async fn restore(arguments: Restore) -> anyhow::Result<()> {
    let Restore { file, data_dir, store, output } = arguments;
    let data_dir = match data_dir {
        Some(directory) => directory,
        None => config::state_directory()?.join(config::Defaults::UP.data_dir),
    };
    let store = store.resolve(&config::Defaults::UP.store, &data_dir)?;
    let place = match &store {
        config::Store::Etcd(etcd) => etcd.to_string(),
        config::Store::Sled | config::Store::Memory => data_dir.display().to_string(),
    };
    let header = snapshot::restore(&file, store, &data_dir).await?;
    report("restored", "into", &place, &header, output)
}

fn report(
    action: &str,
    direction: &str,
    place: &str,
    header: &Header,
    output: Option<Output>,
) -> anyhow::Result<()> {
    let Header { revision, records, created } = header;
    match output {
        None => print(&format!(
            "{action} revision {revision} of {created:.0} ({records} records) {direction} {place}\n"
        )),
        Some(Output::Json) => {
            let line = json!({"action": action, "revision": revision.0, "records": records,
                "created": format!("{created:.0}"), "place": place});
            print(&format!("{line}\n"))
        }
    }
}
