//! The bytes of one file, read without blocking, or the cause why they cannot be read.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::sync::Arc;

use rustix::fs::FileType;

use super::Print;
use crate::manifest::diagnostic::Diagnostic;
use crate::manifest::load::MAX_FILE;

#[derive(Debug)]
pub(in crate::manifest) enum Bytes {
    /// The complete content, unchanged while it was read.
    Whole(Vec<u8>, Print),
    /// The file changed during each read.
    Torn,
    Absent,
    /// This process, or the machine, has no file descriptor left, which proves nothing about the file.
    Exhausted(String),
    /// The file exists and cannot be read.
    Unreadable(Diagnostic),
}

/// The report for an error without a free file descriptor, which is no error of the file.
pub(super) fn exhausted(error: &io::Error) -> Option<String> {
    let (whose, limit) = match error.raw_os_error() {
        Some(libc::EMFILE) => ("this process", "raise its limit (LimitNOFILE=, ulimit -n)"),
        Some(libc::ENFILE) => ("this machine", "raise fs.file-max"),
        _ => return None,
    };
    Some(format!("cannot read the manifests: too many open files in {whose}; {limit}"))
}

pub(in crate::manifest) fn read(file: &Arc<str>, path: &Path) -> Bytes {
    for _ in 0..3 {
        match read_once(path) {
            Ok(Some((bytes, print))) => return Bytes::Whole(bytes, print),
            Ok(None) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Bytes::Absent,
            Err(error) => {
                if let Some(cause) = exhausted(&error) {
                    return Bytes::Exhausted(cause);
                }
                let message = format!("the file cannot be read: {}", reason(&error));
                return Bytes::Unreadable(Diagnostic::about_file(file, message, None));
            }
        }
    }
    Bytes::Torn
}

fn read_once(path: &Path) -> io::Result<Option<(Vec<u8>, Print)>> {
    // O_NONBLOCK: a fifo that replaced the file must not block the source.
    let mut file: File = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(path)?;
    let before = file.metadata()?;
    if !before.is_file() {
        return Err(io::Error::other(format!("it is {}, not a file", kind(before.mode()))));
    }
    // One byte more than allowed, so that `load` refuses a file that is too large; and one byte more than the file has,
    // so that a single call reaches its end.
    let mut bytes = vec![0; usize::try_from(before.len()).unwrap_or(MAX_FILE).min(MAX_FILE) + 1];
    let read = match file.read(&mut bytes) {
        Err(error) if error.kind() == io::ErrorKind::Interrupted => 0,
        read => read?,
    };
    let end = read < bytes.len() && read as u64 == before.len();
    bytes.truncate(read);
    if !end {
        (&mut file).take((MAX_FILE + 1).saturating_sub(read) as u64).read_to_end(&mut bytes)?;
    }
    let after = file.metadata()?;
    let whole =
        Print::of(&before) == Print::of(&after) && (bytes.len() as u64 == after.len() || bytes.len() > MAX_FILE);
    Ok(whole.then(|| (bytes, Print::of(&after))))
}

pub(super) fn kind(mode: rustix::fs::RawMode) -> &'static str {
    match FileType::from_raw_mode(mode) {
        FileType::Directory => "a directory",
        FileType::Fifo => "a fifo",
        FileType::Socket => "a socket",
        FileType::CharacterDevice | FileType::BlockDevice => "a device",
        FileType::RegularFile | FileType::Symlink | FileType::Unknown => "something else",
    }
}

/// The text of an error, without its number.
pub(super) fn reason(error: &io::Error) -> String {
    let kind = error.kind();
    if kind == io::ErrorKind::NotFound {
        "there is no such file or directory".into()
    } else if kind == io::ErrorKind::PermissionDenied {
        "permission denied".into()
    } else if error.raw_os_error() == Some(libc::ELOOP) {
        "it leads in a circle".into()
    } else {
        error.to_string()
    }
}
