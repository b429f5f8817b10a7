//! The checkpoint file: two preallocated, checksummed slots in one file, overwritten alternately.
//!
//! # On disk, format version 2
//!
//! The file `checkpoint`, mode 0600, is two slots of [`SLOT_SIZE`] bytes. All numbers are little endian.
//!
//! ```text
//! slot = magic "FOREBAYC" | version u32 | sequence u64 | length of payload u32 | checksum u32 | payload: JSON
//! ```
//!
//! Version 1, which is still read, has other names in the payload, and an identity without a kind.
//!
//! The checksum is CRC-32C over the 24 bytes before it and the payload. The valid slot with the higher
//! sequence counts. All fields before the payload keep their offsets in every later version; a newer version
//! is refused.
//!
//! Invariants: the valid slot with the higher sequence is never overwritten; the other one is fsynced before
//! the next write. All blocks are written when the file is created, so that later writes need no space. (File
//! systems that never overwrite in place, such as btrfs and ZFS, may still need some.) The file is visible
//! only after both slots and one checkpoint in it are durable.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use super::content::Checkpoint;
use crate::buffer::disk::{self, Directory, DiskError, failed};
use crate::failure::{Explain, Failure};

/// Name of the file in the buffer directory.
const FILE_NAME: &str = "checkpoint";
/// First bytes of a slot.
const MAGIC: [u8; 8] = *b"FOREBAYC";
/// Version of the format that this program writes, and the newest that it reads.
const FORMAT_VERSION: u32 = 2;
/// Bytes before the payload.
const HEADER: usize = 28;
/// Size of a slot in bytes. The event counts take about 80 bytes per event type, the lanes at most 8 KiB.
/// Records that a clean stop finds acknowledged beyond their lanes take 16 bytes each; a read-ahead window of
/// 16 MiB has half a mebibyte of them for events of 500 bytes. The size is three times that. Only the used
/// part is written.
pub const SLOT_SIZE: usize = 2 << 20;

/// Why the checkpoint could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// A disk operation failed.
    #[error("the checkpoint cannot be used")]
    Disk(#[from] DiskError),
    /// Both slots are damaged.
    #[error("{} holds no valid checkpoint", path.display())]
    NoValidSlot {
        /// The file.
        path: PathBuf,
    },
    /// A newer release wrote it.
    #[error("{} has the newer format version {version}", path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its format version.
        version: u32,
    },
    /// The checksum is right, but the payload is not a checkpoint.
    #[error("the checkpoint in {} is intact but cannot be parsed", path.display())]
    Payload {
        /// The file.
        path: PathBuf,
        /// The JSON error.
        source: serde_json::Error,
    },
    /// The payload exceeds the slot. Nothing was written.
    #[error("the checkpoint for {} has {size} bytes; a slot holds at most {}", path.display(), SLOT_SIZE - HEADER)]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Bytes of the payload.
        size: usize,
    },
}

impl Explain for CheckpointError {
    fn code(&self) -> Option<&'static str> {
        match self {
            Self::Disk(error) => error.code(),
            Self::NoValidSlot { .. } => Some("checkpoint_damaged"),
            Self::Newer { .. } => Some("format_newer"),
            Self::Payload { .. } => Some("checkpoint_unreadable"),
            Self::TooLarge { .. } => None,
        }
    }

    fn detail(&self) -> Option<String> {
        match self {
            Self::Disk(error) => error.detail(),
            Self::NoValidSlot { .. } => {
                Some("Both of its slots are damaged, so it is unknown what was published.".to_owned())
            }
            Self::Newer { .. } => Some(format!("This release reads up to version {FORMAT_VERSION}.")),
            Self::Payload { .. } => Some("The checksum is right.".to_owned()),
            Self::TooLarge { .. } => None,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Disk(error) => error.hint(),
            Self::NoValidSlot { .. } => Some(
                "Run `forebay adopt --reason \"…\"` to continue from the replication slot and publish a gap event.".to_owned(),
            ),
            Self::Newer { .. } => Some("Start the newer release again.".to_owned()),
            Self::Payload { .. } => Some("Start the release that wrote it.".to_owned()),
            Self::TooLarge { .. } => None,
        }
    }
}

impl From<CheckpointError> for Failure {
    fn from(error: CheckpointError) -> Self {
        match error {
            CheckpointError::Disk(_)
            | CheckpointError::NoValidSlot { .. }
            | CheckpointError::Newer { .. }
            | CheckpointError::Payload { .. }
            | CheckpointError::TooLarge { .. } => Self::stop(error),
        }
    }
}

/// The open file. The directory's lock ensures that one process writes it.
#[derive(Debug)]
pub struct CheckpointFile {
    directory: Directory,
    /// For messages.
    path: PathBuf,
    /// `None` until the first write creates the file.
    file: Option<File>,
    /// Sequence of the current slot; 0 before the first write.
    sequence: u64,
    /// The current slot: the valid one with the higher sequence.
    current: Slot,
    buffer: Vec<u8>,
    poisoned: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Slot {
    First,
    Second,
}

impl Slot {
    const fn other(self) -> Self {
        match self {
            Self::First => Self::Second,
            Self::Second => Self::First,
        }
    }

    const fn offset(self) -> usize {
        match self {
            Self::First => 0,
            Self::Second => SLOT_SIZE,
        }
    }
}

/// The content of a slot.
enum Content<'a> {
    Valid { sequence: u64, payload: &'a [u8] },
    Newer { sequence: u64, version: u32 },
    Invalid,
}

/// The content of the file, as read without changing it.
#[derive(Debug)]
pub struct Peeked {
    /// The current checkpoint; `None` before the first write.
    pub checkpoint: Option<Checkpoint>,
    /// The sequence of each slot; `None` if the slot is damaged. A new file has one slot, and two from its
    /// second write on.
    pub slots: Vec<Option<u64>>,
}

/// Most reads until a valid slot is found: the daemon may write both slots during one read.
const LOOKS: usize = 3;

impl CheckpointFile {
    /// Reads the file without changing anything, even while a daemon writes.
    ///
    /// # Errors
    /// The same as those of [`open`](Self::open).
    pub fn peek(directory: &Directory) -> Result<Peeked, CheckpointError> {
        let path = directory.path_of(FILE_NAME);
        for _ in 0..LOOKS {
            let Some(file) = disk::if_exists(directory.open_to_read(FILE_NAME))? else {
                return Ok(Peeked { checkpoint: None, slots: Vec::new() });
            };
            let bytes = read_slots(&file).map_err(failed("read", &path))?;
            let (first, second) = bytes.split_at(SLOT_SIZE);
            let slots = vec![decode(first).sequence(), decode(second).sequence()];
            let contents = [decode(first), decode(second)];
            match contents.into_iter().max_by_key(Content::sequence) {
                Some(Content::Valid { payload, .. }) => {
                    let checkpoint = serde_json::from_slice(payload)
                        .map_err(|source| CheckpointError::Payload { path, source })?;
                    return Ok(Peeked { checkpoint: Some(checkpoint), slots });
                }
                Some(Content::Newer { version, .. }) => return Err(CheckpointError::Newer { path, version }),
                Some(Content::Invalid) | None => {}
            }
        }
        Err(CheckpointError::NoValidSlot { path })
    }

    /// Reads the checkpoint of an existing directory; `None` if there is no file. The first
    /// [`write`](Self::write) creates the file with a checkpoint, so a file without a valid one is damaged.
    pub fn open(directory: &Directory) -> Result<(Self, Option<Checkpoint>), CheckpointError> {
        let new = Self {
            directory: directory.clone(),
            path: directory.path_of(FILE_NAME),
            file: None,
            sequence: 0,
            current: Slot::Second,
            buffer: Vec::new(),
            poisoned: None,
        };
        match disk::if_exists(directory.open_to_write(FILE_NAME))? {
            Some(file) => new.read(file),
            None => Ok((new, None)),
        }
    }

    /// Renames a file without a valid slot to `checkpoint.damaged`, so that an adoption can continue without
    /// it. A readable file, or one of a newer version, is not renamed.
    pub fn put_damaged_aside(directory: &Directory) -> Result<(), CheckpointError> {
        match Self::open(directory) {
            Err(CheckpointError::NoValidSlot { .. } | CheckpointError::Payload { .. }) => {
                Ok(directory.put_aside(FILE_NAME, "damaged")?)
            }
            Ok(_) => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn read(mut self, file: File) -> Result<(Self, Option<Checkpoint>), CheckpointError> {
        let bytes = read_slots(&file).map_err(failed("read", &self.path))?;
        let (first, second) = bytes.split_at(SLOT_SIZE);
        let best = [(Slot::First, decode(first)), (Slot::Second, decode(second))]
            .into_iter()
            .filter(|(_, content)| content.sequence().is_some())
            .max_by_key(|(_, content)| content.sequence());
        let path = self.path.clone();
        let payload = match best {
            None | Some((_, Content::Invalid)) => return Err(CheckpointError::NoValidSlot { path }),
            Some((_, Content::Newer { version, .. })) => {
                return Err(CheckpointError::Newer { path, version });
            }
            Some((slot, Content::Valid { sequence, payload })) => {
                (self.current, self.sequence) = (slot, sequence);
                payload
            }
        };
        let checkpoint =
            serde_json::from_slice(payload).map_err(|source| CheckpointError::Payload { path, source })?;
        // If an earlier process was killed before its fsync, the content may be only in the page cache.
        file.sync_all().map_err(failed("fsync", &self.path))?;
        self.directory.sync()?;
        self.file = Some(file);
        Ok((self, Some(checkpoint)))
    }

    /// Makes this checkpoint the current one; durable on return. Blocks for one fsync: call it on a blocking
    /// thread. If the disk fails, the file is not used any more. After a restart, the previous checkpoint is
    /// still the current one.
    pub fn write(&mut self, checkpoint: &Checkpoint) -> Result<(), CheckpointError> {
        if let Some(reason) = &self.poisoned {
            return Err(DiskError::Poisoned { path: self.path.clone(), reason: reason.clone() }.into());
        }
        let sequence = self.sequence + 1;
        let slot = self.current.other();
        self.encode(checkpoint, sequence)?;
        let stored = if let Some(file) = &self.file {
            overwrite(file, &self.path, &self.buffer, slot)
                .and_then(|()| self.directory.check_unchanged(FILE_NAME, file, &(0..=u64::MAX)))
                .map(|()| None)
        } else {
            let mut bytes = self.buffer.clone();
            bytes.resize(2 * SLOT_SIZE, 0);
            self.directory.replace_durably(FILE_NAME, &bytes).map(Some)
        };
        match stored {
            Ok(made) => {
                self.file = made.or_else(|| self.file.take());
                (self.sequence, self.current) = (sequence, slot);
                Ok(())
            }
            Err(error) => {
                self.poisoned = Some(error.to_string());
                Err(error.into())
            }
        }
    }

    /// Encodes a slot into the buffer.
    fn encode(&mut self, checkpoint: &Checkpoint, sequence: u64) -> Result<(), CheckpointError> {
        self.buffer.clear();
        self.buffer.extend_from_slice(&[0; HEADER]);
        serde_json::to_writer(&mut self.buffer, checkpoint)
            .map_err(|source| CheckpointError::Payload { path: self.path.clone(), source })?;
        let size = self.buffer.len() - HEADER;
        if size > SLOT_SIZE - HEADER {
            self.buffer = Vec::new();
            return Err(CheckpointError::TooLarge { path: self.path.clone(), size });
        }
        let length = u32::try_from(size).expect("a payload is smaller than a slot");
        let head = MAGIC
            .into_iter()
            .chain(FORMAT_VERSION.to_le_bytes())
            .chain(sequence.to_le_bytes())
            .chain(length.to_le_bytes());
        for (to, from) in self.buffer.iter_mut().zip(head) {
            *to = from;
        }
        let (head, rest) = self.buffer.split_at_mut(HEADER - 4);
        if let Some((checksum, payload)) = rest.split_first_chunk_mut::<4>() {
            *checksum = crc32c::crc32c_append(crc32c::crc32c(head), payload).to_le_bytes();
        }
        Ok(())
    }
}

/// `fdatasync` is enough: neither the size nor the blocks of the file change, and the timestamps do not
/// matter.
fn overwrite(file: &File, path: &Path, bytes: &[u8], slot: Slot) -> Result<(), DiskError> {
    file.write_all_at(bytes, slot.offset() as u64).map_err(failed("write", path))?;
    file.sync_data().map_err(failed("fsync", path))
}

/// Reads both slots. Bytes beyond the end of the file are zero.
fn read_slots(file: &File) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; 2 * SLOT_SIZE];
    let length = usize::try_from(file.metadata()?.len()).unwrap_or(usize::MAX).min(bytes.len());
    let (present, _) = bytes.split_at_mut(length);
    file.read_exact_at(present, 0)?;
    Ok(bytes)
}

fn decode(slot: &[u8]) -> Content<'_> {
    try_decode(slot).unwrap_or(Content::Invalid)
}

fn try_decode(slot: &[u8]) -> Option<Content<'_>> {
    let (checked, rest) = slot.split_at_checked(HEADER - 4)?;
    let (checksum, rest) = rest.split_first_chunk::<4>()?;
    let (version, numbers) = checked.strip_prefix(&MAGIC)?.split_first_chunk::<4>()?;
    let (sequence, length) = numbers.split_first_chunk::<8>()?;
    let length = u32::from_le_bytes(*length.first_chunk()?) as usize;
    let payload = rest.get(..length)?;
    if crc32c::crc32c_append(crc32c::crc32c(checked), payload).to_le_bytes() != *checksum {
        return None;
    }
    let (version, sequence) = (u32::from_le_bytes(*version), u64::from_le_bytes(*sequence));
    if version > FORMAT_VERSION {
        return Some(Content::Newer { sequence, version });
    }
    Some(Content::Valid { sequence, payload })
}

impl Content<'_> {
    fn sequence(&self) -> Option<u64> {
        match self {
            Self::Valid { sequence, .. } | Self::Newer { sequence, .. } => Some(*sequence),
            Self::Invalid => None,
        }
    }
}
