//! Prints of files: metadata that identify the content of a file without reading it.

use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::{Duration, SystemTime};

/// Device and inode of a file.
pub(in crate::manifest) type FileId = (u64, u64);

/// Metadata that change whenever the content does. Trusted only for a while: see `source`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::manifest) struct Print {
    inode: u64,
    modified: i64,
    changed: i64,
    size: u64,
    device: u64,
}

/// A time in nanoseconds since the epoch. A time that does not fit (after 2262) is in the future, and not trusted.
fn moment(seconds: i64, nanoseconds: i64) -> i64 {
    seconds.saturating_mul(1_000_000_000).saturating_add(nanoseconds)
}

impl Print {
    pub(in crate::manifest) fn of(metadata: &Metadata) -> Self {
        Self {
            inode: metadata.ino(),
            modified: moment(metadata.mtime(), metadata.mtime_nsec()),
            changed: moment(metadata.ctime(), metadata.ctime_nsec()),
            size: metadata.len(),
            device: metadata.dev(),
        }
    }

    #[expect(clippy::useless_conversion, reason = "the types of these fields differ from one processor to the next")]
    pub(super) fn of_stat(stat: &rustix::fs::Stat) -> Self {
        let nanoseconds = |nanoseconds| i64::try_from(nanoseconds).unwrap_or_default();
        Self {
            inode: stat.st_ino.into(),
            modified: moment(stat.st_mtime.into(), nanoseconds(stat.st_mtime_nsec)),
            changed: moment(stat.st_ctime.into(), nanoseconds(stat.st_ctime_nsec)),
            size: stat.st_size.try_into().unwrap_or(u64::MAX),
            device: stat.st_dev.into(),
        }
    }

    /// Identity of the file, which a rename does not change.
    pub(in crate::manifest) fn file(&self) -> FileId {
        (self.device, self.inode)
    }

    pub(in crate::manifest) fn is_empty(&self) -> bool {
        self.size == 0
    }

    /// Returns whether it was modified within `span` before `wall`, or after it.
    pub(in crate::manifest) fn modified_within(&self, span: Duration, wall: SystemTime) -> bool {
        self.modified >= before(span, wall)
    }

    /// Returns whether its metadata changed within `span` before `wall`, or after it. A writer can set the modification
    /// time (mtime), but not the change time (ctime).
    pub(in crate::manifest) fn changed_within(&self, span: Duration, wall: SystemTime) -> bool {
        self.modified.max(self.changed) >= before(span, wall)
    }

    /// Returns the time until its metadata are unchanged for `span`, if nothing changes after `wall`. A time of whole
    /// seconds may be from a file system without fractions. A time in the future proves nothing.
    pub(in crate::manifest) fn quiet_in(&self, span: Duration, wall: SystemTime) -> Duration {
        let newest = self.modified.max(self.changed);
        let newest = if newest % 1_000_000_000 == 0 { newest.saturating_add(2_000_000_000) } else { newest };
        let wall = wall.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_nanos());
        let age = u64::try_from(newest).ok().and_then(|newest| wall.checked_sub(newest.into()));
        let age = age.and_then(|age| u64::try_from(age).ok()).map(Duration::from_nanos);
        age.map_or(span, |age| span.saturating_sub(age))
    }

    /// The print of the file at `path`.
    pub(in crate::manifest) fn at(path: &Path) -> Option<Self> {
        fs::metadata(path).ok().map(|metadata| Self::of(&metadata))
    }
}

/// The whole second that is `span` before `wall`.
fn before(span: Duration, wall: SystemTime) -> i64 {
    let since_epoch = wall.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().saturating_sub(span);
    moment(i64::try_from(since_epoch.as_secs()).unwrap_or(i64::MAX), 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_quiet_once_its_newest_time_is_old_enough() {
        let quiet_in = |modified: i64, changed: i64| {
            let print = Print { inode: 1, modified, changed, size: 1, device: 1 };
            print.quiet_in(Duration::from_millis(200), SystemTime::UNIX_EPOCH + Duration::from_secs(100)).as_millis()
        };
        let ms = |ms: i64| ms * 1_000_000;
        assert_eq!(quiet_in(ms(99_799), ms(99_799)), 0);
        assert_eq!(quiet_in(ms(99_950), ms(1)), 150, "the newest of both");
        assert_eq!(quiet_in(ms(1), ms(99_950)), 150, "the newest of both");
        assert_eq!(quiet_in(ms(99_999), ms(99_999)), 199);
        assert_eq!((quiet_in(ms(99_000), 1), quiet_in(ms(97_000), 1)), (200, 0), "perhaps written two seconds later");
        assert_eq!((quiet_in(ms(100_001), 1), quiet_in(i64::MAX, 1)), (200, 200), "in the future");
        assert_eq!(quiet_in(-1, -1), 200, "before the epoch");
    }
}
