//! The minimum work from an edit to its call, as a process of its own: a raw inotify read, a read of the file, a YAML
//! parser, one request on an open connection. No runtime, no checks, no state.

#![expect(clippy::print_stdout, reason = "the line that reports to its parent that it watches")]

use std::collections::HashMap;
use std::ffi::OsStr;
use std::mem::MaybeUninit;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::{fs, thread};

use rustix::fs::inotify::{self, CreateFlags, Reader, WatchFlags};
use serde::Deserialize;

use crate::wire::Wire;

/// The first argument of the floor process.
pub(crate) const VERB: &str = "floor";

/// The fields of a manifest that the floor uses. It parses the whole file.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Manifest {
    spec: Spec,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Spec {
    app_id: String,
    state: String,
}

/// The process itself; never ends.
pub(crate) fn run(server: &str, manifests: &Path) -> anyhow::Result<()> {
    let mut wire = Wire::open(server.parse()?)?;
    let watch = inotify::init(CreateFlags::CLOEXEC)?;
    let mut directories = HashMap::new();
    for directory in directories_below(manifests)? {
        let id = inotify::add_watch(&watch, &directory, WatchFlags::CLOSE_WRITE | WatchFlags::MOVED_TO)?;
        directories.insert(id, directory);
    }
    println!("ready");
    let mut buffer = vec![MaybeUninit::uninit(); 64 * 1024];
    let mut events = Reader::new(watch, &mut buffer);
    loop {
        let event = events.next()?;
        let (Some(directory), Some(name)) = (directories.get(&event.wd()), event.file_name()) else { continue };
        if !name.to_bytes().ends_with(b".yaml") {
            continue;
        }
        let bytes = fs::read(directory.join(OsStr::from_bytes(name.to_bytes())))?;
        let manifest: Manifest = serde_yaml::from_slice(&bytes)?;
        let action = if manifest.spec.state == "Stopped" { "stop" } else { "start" };
        wire.ask("POST", &format!("/v1/apps/{}/{action}", manifest.spec.app_id))?;
    }
}

fn directories_below(root: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut found = vec![root.to_owned()];
    for entry in fs::read_dir(root)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            found.extend(directories_below(&entry.path())?);
        }
    }
    Ok(found)
}

/// Every file below `root`, read one after the other. Returns their total size.
pub(crate) fn read_all(root: &Path) -> anyhow::Result<usize> {
    let mut bytes = 0;
    for file in files_below(root)? {
        bytes += fs::read(file)?.len();
    }
    Ok(bytes)
}

/// Every file below `root`, read and parsed on all cores. Returns the number of Stopped ones.
pub(crate) fn parse_all(root: &Path) -> anyhow::Result<usize> {
    let files = files_below(root)?;
    let cores = thread::available_parallelism()?.get();
    thread::scope(|scope| {
        let parts = files.chunks(files.len().div_ceil(cores).max(1));
        let workers: Vec<_> = parts.map(|part| scope.spawn(|| parse_each(part))).collect();
        workers.into_iter().map(|worker| worker.join().expect("a parser does not panic")).sum()
    })
}

fn parse_each(files: &[PathBuf]) -> anyhow::Result<usize> {
    let mut stopped = 0;
    for file in files {
        let manifest: Manifest = serde_yaml::from_slice(&fs::read(file)?)?;
        stopped += usize::from(manifest.spec.state == "Stopped");
    }
    Ok(stopped)
}

fn files_below(root: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for directory in directories_below(root)? {
        for entry in fs::read_dir(directory)? {
            let entry = entry?;
            if entry.file_type()?.is_file() {
                files.push(entry.path());
            }
        }
    }
    Ok(files)
}
