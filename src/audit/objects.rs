//! Reads the lines of an archive: of the objects in a bucket, or of copies of them in a directory, compressed
//! or not.

use std::collections::HashSet;
use std::fs::File;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io::{self, Read as _, Write};
use std::path::{Path, PathBuf};

use flate2::write::MultiGzDecoder;

use crate::sink::kinesis::read::bucket::Bucket;

/// Longest line, in bytes. A Kinesis record has at most 10 MiB.
const LINE_MAX: usize = 64 << 20;
/// Bytes read from a file at once.
const PIECE: usize = 256 << 10;
/// The first bytes of a gzip file.
const GZIP: [u8; 2] = [0x1f, 0x8b];

/// The location of an archive.
#[derive(Debug)]
pub(super) enum Archive {
    /// A directory.
    Directory(PathBuf),
    /// A bucket.
    Bucket(Box<Bucket>),
}

/// The objects that were read.
#[derive(Debug, Default)]
pub(super) struct ObjectsRead {
    /// Hashes of their names.
    names: HashSet<u64>,
    /// Their number.
    pub(super) objects: u64,
}

impl ObjectsRead {
    fn is_new(&mut self, name: &str) -> bool {
        let mut hasher = DefaultHasher::new();
        name.hash(&mut hasher);
        let new = self.names.insert(hasher.finish());
        self.objects += u64::from(new);
        new
    }
}

impl Archive {
    /// Calls `take` with every line of the objects that were not read before.
    ///
    /// # Errors
    /// An object that cannot be read, with its name; an error of `take`.
    pub(super) async fn read(
        &self,
        read: &mut ObjectsRead,
        mut take: impl FnMut(&[u8]) -> io::Result<()>,
    ) -> Result<(), String> {
        match self {
            Self::Directory(directory) => {
                let events = directory.join("events");
                let root = if events.is_dir() { &events } else { directory };
                for path in files(root)? {
                    if read.is_new(&path.to_string_lossy()) {
                        let wrong = |error: io::Error| format!("{} cannot be read: {error}", path.display());
                        read_file(&path, &mut take).map_err(wrong)?;
                    }
                }
            }
            Self::Bucket(bucket) => {
                let mut page = bucket.first_page();
                while let Some(at) = page {
                    let (objects, next) = bucket.list(at).await?;
                    for object in objects {
                        if !read.is_new(&object.key) {
                            continue;
                        }
                        let wrong =
                            |error: io::Error| format!("object {} cannot be read: {error}", object.key);
                        let mut lines = ObjectLines::new(&mut take);
                        let mut from = 0;
                        while from < object.size {
                            let piece = bucket.get(&object, from).await?;
                            from += piece.len() as u64;
                            lines.write(&piece).map_err(wrong)?;
                        }
                        lines.finish().map_err(wrong)?;
                    }
                    page = next;
                }
            }
        }
        Ok(())
    }
}

/// All files below a directory, in the order of their paths.
fn files(root: &Path) -> Result<Vec<PathBuf>, String> {
    let wrong = |path: &Path, error: io::Error| format!("{} cannot be read: {error}", path.display());
    let (mut found, mut folders) = (Vec::new(), vec![root.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).map_err(|error| wrong(&folder, error))? {
            let path = entry.map_err(|error| wrong(&folder, error))?.path();
            if path.is_dir() {
                folders.push(path);
            } else {
                found.push(path);
            }
        }
    }
    found.sort_unstable();
    Ok(found)
}

fn read_file(path: &Path, take: &mut impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
    let mut file = File::open(path)?;
    let (mut lines, mut piece) = (ObjectLines::new(take), vec![0; PIECE]);
    loop {
        let size = file.read(&mut piece)?;
        if size == 0 {
            return lines.finish();
        }
        lines.write(piece.get(..size).unwrap_or_default())?;
    }
}

/// Splits the bytes of an object into lines, decompressed if they begin as gzip.
pub(super) enum ObjectLines<'a, F: FnMut(&[u8]) -> io::Result<()>> {
    /// Fewer bytes so far than are needed to recognise gzip.
    Begin(Vec<u8>, LineSplitter<'a, F>),
    Plain(LineSplitter<'a, F>),
    Gzip(Box<MultiGzDecoder<LineSplitter<'a, F>>>),
    /// Placeholder while the state changes.
    Taken,
}

impl<'a, F: FnMut(&[u8]) -> io::Result<()>> ObjectLines<'a, F> {
    pub(super) fn new(take: &'a mut F) -> Self {
        Self::Begin(Vec::new(), LineSplitter { take, line: Vec::new() })
    }

    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match std::mem::replace(self, Self::Taken) {
            Self::Begin(mut first, lines) => {
                first.extend_from_slice(bytes);
                *self = if first.len() < GZIP.len() {
                    Self::Begin(first, lines)
                } else {
                    decided(&first, lines)?
                };
                return Ok(());
            }
            other => *self = other,
        }
        match self {
            Self::Plain(lines) => lines.write_all(bytes),
            Self::Gzip(decoder) => decoder.write_all(bytes),
            Self::Begin(..) | Self::Taken => Ok(()),
        }
    }

    /// Processes the end of the object.
    pub(super) fn finish(self) -> io::Result<()> {
        match self {
            Self::Begin(first, mut lines) => {
                lines.write_all(&first)?;
                lines.end()
            }
            Self::Plain(lines) => lines.end(),
            Self::Gzip(decoder) => decoder.finish()?.end(),
            Self::Taken => Ok(()),
        }
    }
}

fn decided<'a, F: FnMut(&[u8]) -> io::Result<()>>(
    first: &[u8],
    mut lines: LineSplitter<'a, F>,
) -> io::Result<ObjectLines<'a, F>> {
    if first.starts_with(&GZIP) {
        let mut decoder = Box::new(MultiGzDecoder::new(lines));
        decoder.write_all(first)?;
        return Ok(ObjectLines::Gzip(decoder));
    }
    lines.write_all(first)?;
    Ok(ObjectLines::Plain(lines))
}

/// Splits bytes at line feeds.
pub(super) struct LineSplitter<'a, F> {
    take: &'a mut F,
    line: Vec<u8>,
}

impl<F: FnMut(&[u8]) -> io::Result<()>> LineSplitter<'_, F> {
    fn end(mut self) -> io::Result<()> {
        if self.line.is_empty() { Ok(()) } else { (self.take)(&std::mem::take(&mut self.line)) }
    }
}

impl<F: FnMut(&[u8]) -> io::Result<()>> Write for LineSplitter<'_, F> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut parts = bytes.split_inclusive(|byte| *byte == b'\n');
        if !self.line.is_empty()
            && let Some(part) = parts.next()
        {
            if self.line.len() + part.len() > LINE_MAX {
                return Err(io::Error::other(format!("a line is longer than {LINE_MAX} bytes")));
            }
            self.line.extend_from_slice(part);
            if part.ends_with(b"\n") {
                (self.take)(&self.line)?;
                self.line.clear();
            }
        }
        for part in parts {
            if part.ends_with(b"\n") {
                (self.take)(part)?;
            } else {
                self.line.extend_from_slice(part);
            }
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    /// Firehose concatenates buffers: an object may have several gzip members, and its last line may have no
    /// line feed.
    #[test]
    fn lines_are_split_however_their_bytes_arrive() {
        let text = b"{\"a\":1}\n\n{\"b\":2}\n{\"c\":3}";
        let mut gzip = Vec::new();
        for part in text.chunks(9) {
            let mut encoder = GzEncoder::new(&mut gzip, Compression::fast());
            encoder.write_all(part).unwrap();
            encoder.finish().unwrap();
        }
        for bytes in [&text[..], &gzip] {
            for size in [1, 2, 3, 5, 1000] {
                let mut found: Vec<Vec<u8>> = Vec::new();
                let mut take = |line: &[u8]| {
                    found.push(line.to_vec());
                    Ok(())
                };
                let mut lines = ObjectLines::new(&mut take);
                bytes.chunks(size).for_each(|piece| lines.write(piece).unwrap());
                lines.finish().unwrap();
                assert_eq!(found.concat(), text);
                assert_eq!(found.len(), 4);
            }
        }
    }

    #[test]
    fn damaged_gzip_is_an_error() {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(&[b'x'; 1000]).unwrap();
        let whole = encoder.finish().unwrap();
        for bytes in [&whole[..whole.len() - 3], &[&GZIP[..], &[9; 30]].concat()] {
            let mut take = |_: &[u8]| Ok(());
            let mut lines = ObjectLines::new(&mut take);
            let written = lines.write(bytes);
            assert!(written.and_then(|()| lines.finish()).is_err());
        }
    }
}
