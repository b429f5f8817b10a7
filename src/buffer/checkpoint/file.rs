//! The checkpoint file: two preallocated, checksummed slots in one file, overwritten in turn.
//!
//! # On disk, format version 1
//!
//! The file `checkpoint`, mode 0600, is two slots of [`SLOT_SIZE`] bytes. All numbers are little endian.
//!
//! ```text
//! slot = magic "FOREBAYC" | version u32 | sequence u64 | length of payload u32 | checksum u32 | payload: JSON
//! ```
//!
//! The checksum is CRC-32C over the 24 bytes before it and the payload. The valid slot with the higher sequence counts.
//! Everything before the payload keeps its place in every later version; a newer version is refused.
//!
//! Invariants: the slot that counts is never touched; the other one is fsynced before the next write. All blocks were
//! written when the file was made, so that a write needs no room (a file system that never overwrites in place, as btrfs
//! or ZFS, may still want some). Nobody sees the file before both slots and one checkpoint are durable in it.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use super::Checkpoint;
use crate::buffer::disk::{self, DiskError, failed};
use crate::failure::Failure;

/// Name of the file in the buffer's directory.
const FILE_NAME: &str = "checkpoint";
/// First bytes of a slot.
const MAGIC: [u8; 8] = *b"FOREBAYC";
/// Version of the format that this program writes, and the newest that it reads.
const FORMAT_VERSION: u32 = 1;
/// Bytes before the payload.
const HEADER: usize = 28;
/// Bytes of a slot. The books take about 80 bytes per event type, the lanes at most 8 KiB, and the records answered
/// beyond their lanes at a clean stop 16 bytes each, as many as a read-ahead window of 16 MiB holds (half a mebibyte for
/// events of 500 bytes): this leaves room for thrice that. Only what is used is written.
pub const SLOT_SIZE: usize = 2 << 20;

/// Why the checkpoint could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// The disk refused.
    #[error("the checkpoint cannot be used")]
    Disk(#[from] DiskError),
    /// Nothing in the file is whole.
    #[error(
        "{} holds no valid checkpoint: it is damaged, and nobody knows what was published; run `forebay adopt \
         --reason \"…\"` to go on from the replication slot and have the gap noted",
        path.display()
    )]
    NoValidSlot {
        /// The file.
        path: PathBuf,
    },
    /// Another release wrote it.
    #[error(
        "{} has format version {version}, this program reads up to {FORMAT_VERSION}: start the newer release again",
        path.display()
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its version.
        version: u32,
    },
    /// The bytes are whole, but they do not say what a checkpoint says.
    #[error("the checkpoint in {} is whole but cannot be understood: was it written by another release?", path.display())]
    Payload {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: serde_json::Error,
    },
    /// More to remember than a slot holds; nothing was written.
    #[error("the checkpoint for {} has {size} bytes; a slot holds at most {}", path.display(), SLOT_SIZE - HEADER)]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Bytes of the payload.
        size: usize,
    },
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

/// The file. One process has it, under the directory's lock.
#[derive(Debug)]
pub struct CheckpointFile {
    path: PathBuf,
    /// `None` until the first write makes the file.
    file: Option<File>,
    /// Sequence of the slot that counts; 0 before the first write.
    sequence: u64,
    /// Which slot counts.
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

/// What a slot holds.
enum Content<'a> {
    Valid { sequence: u64, payload: &'a [u8] },
    Newer { sequence: u64, version: u32 },
    Invalid,
}

/// What a look at the file finds.
#[derive(Debug)]
pub struct Peeked {
    /// The one that counts; `None` if there never was one.
    pub checkpoint: Option<Checkpoint>,
    /// Per slot: its sequence, if it is whole. A whole file always has one, and two from its second write on.
    pub slots: Vec<Option<u64>>,
}

/// How often a look is repeated that finds no whole slot: while it is read, the daemon may write both.
const LOOKS: usize = 3;

impl CheckpointFile {
    /// Reads without changing anything, also while a daemon writes.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn peek(directory: &Path) -> Result<Peeked, CheckpointError> {
        let path = directory.join(FILE_NAME);
        for _ in 0..LOOKS {
            let file = match File::open(&path) {
                Ok(file) => file,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    return Ok(Peeked { checkpoint: None, slots: Vec::new() });
                }
                Err(error) => return Err(failed("open", &path)(error).into()),
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

    /// Reads the checkpoint of an existing directory; `None` if there never was one. The file is made by the first
    /// [`write`](Self::write), so that one without a checkpoint can only be a damaged one.
    pub fn open(directory: &Path) -> Result<(Self, Option<Checkpoint>), CheckpointError> {
        let path = directory.join(FILE_NAME);
        let new =
            Self { path, file: None, sequence: 0, current: Slot::Second, buffer: Vec::new(), poisoned: None };
        match OpenOptions::new().read(true).write(true).open(&new.path) {
            Ok(file) => new.read(file, directory),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok((new, None)),
            Err(error) => Err(failed("open", &new.path)(error).into()),
        }
    }

    /// Renames a file without a valid slot to `checkpoint.damaged`, so that a person can go on without it. One that can be
    /// read, or was written by a newer version, stays.
    pub fn put_damaged_aside(directory: &Path) -> Result<(), CheckpointError> {
        match Self::open(directory) {
            Err(CheckpointError::NoValidSlot { path } | CheckpointError::Payload { path, .. }) => {
                Ok(disk::put_aside(&path, "damaged")?)
            }
            Ok(_) => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn read(mut self, file: File, directory: &Path) -> Result<(Self, Option<Checkpoint>), CheckpointError> {
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
        // What was read may be in the page cache only, left there by a process that was killed before its fsync.
        file.sync_all().map_err(failed("fsync", &self.path))?;
        disk::sync_directory(directory)?;
        self.file = Some(file);
        Ok((self, Some(checkpoint)))
    }

    /// Makes this checkpoint the one that counts; durable when it returns. Blocks for one fsync: call it on a blocking
    /// thread. If the disk fails, the file is not used any more; what counted before still does after a restart.
    pub fn write(&mut self, checkpoint: &Checkpoint) -> Result<(), CheckpointError> {
        if let Some(reason) = &self.poisoned {
            return Err(DiskError::Poisoned { path: self.path.clone(), reason: reason.clone() }.into());
        }
        let sequence = self.sequence + 1;
        let slot = self.current.other();
        self.encode(checkpoint, sequence)?;
        let stored = if let Some(file) = &self.file {
            overwrite(file, &self.path, &self.buffer, slot).map(|()| None)
        } else {
            let mut bytes = self.buffer.clone();
            bytes.resize(2 * SLOT_SIZE, 0);
            disk::replace_durably(&self.path, &bytes).map(Some)
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

    /// Puts a slot's bytes into the buffer.
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

/// `fdatasync` is enough: neither the size nor the blocks of the file change, and the times do not matter.
fn overwrite(file: &File, path: &Path, bytes: &[u8], slot: Slot) -> Result<(), DiskError> {
    file.write_all_at(bytes, slot.offset() as u64).map_err(failed("write", path))?;
    file.sync_data().map_err(failed("fsync", path))
}

/// Both slots; what the file is too short for is zero.
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
