//! Random histories against a model that is a list.

use std::sync::Arc;
use std::time::Duration;

use forebay::buffer::checkpoint::Mark;
use forebay::buffer::frame::FrameKind;
use forebay::buffer::log::{Log, LogConfig};
use forebay::buffer::reader::Reader;
use forebay::buffer::tail::Tail;
use forebay::buffer::writer::{WriteError, Writer};
use forebay::position::FrameNo;

use super::{Content, Random, contents, new_log, quick_directory};

/// What the log should be. Frame `n` is `frames[n - 1]`.
struct Model {
    config: LogConfig,
    frames: Vec<Content>,
    published: u64,
    synced: u64,
    watermark: u64,
    read: u64,
    refused: u64,
    log: Arc<Log>,
    writer: Writer,
    reader: Reader,
}

impl Model {
    fn new(config: LogConfig) -> Self {
        let (log, writer) = new_log(config.clone());
        let reader = Reader::new(&log, FrameNo(0));
        let (frames, published, synced, watermark, read, refused) = (Vec::new(), 0, 0, 0, 0, 0);
        Self { config, frames, published, synced, watermark, read, refused, log, writer, reader }
    }

    /// The tail after frame `count`.
    fn tail(&self, count: u64) -> Tail {
        let change = self.frames[..count as usize].iter().rev().find(|f| f.kind == FrameKind::Change);
        Tail {
            frame: FrameNo(count),
            position: change.map(|content| content.position),
            transaction: change.map(|content| content.transaction),
        }
    }

    fn step(&mut self, random: &mut Random) {
        match random.below(24) {
            0..10 => self.append(random),
            10..14 => self.flush(),
            14..16 => self.sync(),
            16..20 => self.read(),
            20..23 => self.reclaim(random),
            _ => self.reopen(random),
        }
        assert_eq!(self.log.tail().frame, FrameNo(self.published));
        assert_eq!(self.writer.tail().frame, FrameNo(self.frames.len() as u64));
        assert!(self.log.bytes() <= self.config.max_size, "{} bytes", self.log.bytes());
        let paths = super::segments(self.config.directory.path());
        assert_eq!(paths.len(), self.log.segments());
        let on_disk: u64 = paths.iter().map(|path| path.metadata().unwrap().len()).sum();
        assert_eq!(on_disk, self.log.bytes());
    }

    fn append(&mut self, random: &mut Random) {
        for _ in 0..random.between(1, 5) {
            let number = self.frames.len() as u64 + 1;
            let content = Content::random(random, number, 400);
            assert_eq!(content.append(&mut self.writer).unwrap(), FrameNo(number));
            self.frames.push(content);
        }
    }

    fn flush(&mut self) {
        match self.writer.flush() {
            Ok(()) => {
                self.published = self.frames.len() as u64;
                assert_eq!(self.writer.staged(), 0);
                assert_eq!(self.log.tail(), self.known_tail(self.published));
            }
            Err(error @ WriteError::LogFull { .. }) => {
                assert!(error.is_full());
                assert!(self.watermark < self.log.tail().frame.0, "an empty log is never full");
                let published = self.log.tail().frame.0;
                assert!((self.published..self.frames.len() as u64).contains(&published));
                self.published = published;
                self.refused += 1;
            }
            Err(error) => panic!("{error}"),
        }
    }

    /// As the model says, but a log that was opened without any change in it knows none.
    fn known_tail(&self, count: u64) -> Tail {
        let tail = self.tail(count);
        Tail { transaction: self.log.tail().transaction.and(tail.transaction), ..tail }
    }

    fn sync(&mut self) {
        assert_eq!(self.log.sync().unwrap().frame, FrameNo(self.published));
        self.synced = self.published;
    }

    fn read(&mut self) {
        while let Some(chunk) = self.reader.next_chunk().unwrap() {
            for (number, content) in contents(&chunk) {
                self.read += 1;
                assert_eq!((number.0, &content), (self.read, &self.frames[self.read as usize - 1]));
            }
        }
        assert_eq!(self.read, self.published, "everything published can be read");
    }

    fn reclaim(&mut self, random: &mut Random) {
        self.watermark =
            if random.below(2) == 0 { self.read } else { random.between(self.watermark, self.read) };
        self.log.reclaim(FrameNo(self.watermark)).unwrap();
    }

    fn reopen(&mut self, random: &mut Random) {
        let durable = random.between(self.watermark, self.synced.max(self.watermark));
        let watermark = Mark { frame: FrameNo(self.watermark), position: self.tail(self.watermark).position };
        let scan = Log::scan(&self.config.directory, watermark, FrameNo(durable)).unwrap();
        assert_eq!(scan.damage, None);
        assert_eq!((scan.good.frame, scan.good.position), (FrameNo(durable), self.tail(durable).position));
        let truncate_after =
            if random.below(3) == 0 { random.between(self.watermark, durable) } else { durable };
        let (log, writer) = Log::open(self.config.clone(), FrameNo(truncate_after), scan).unwrap();
        assert_eq!(log.tail().position, self.tail(truncate_after).position);
        self.frames.truncate(truncate_after as usize);
        (self.published, self.synced) = (truncate_after, truncate_after);
        self.read = random.between(self.watermark, truncate_after);
        self.reader = Reader::new(&log, FrameNo(self.read));
        (self.log, self.writer) = (log, writer);
    }
}

#[test]
fn random_history_reads_as_its_frames() {
    let seed = std::env::var("SEED").ok().map(|seed| seed.parse().expect("SEED is a number"));
    let seeds = seed.map_or(0..40, |seed: u64| seed..seed + 1);
    let (mut refused, mut frames) = (0, 0);
    for seed in seeds {
        println!("SEED={seed}");
        let directory = quick_directory();
        let mut random = Random(seed);
        let mut model = Model::new(LogConfig {
            directory: super::opened(directory.path()),
            max_size: random.between(4_000, 40_000),
            segment_size: random.between(100, 4_000),
            rotate_after: if seed % 3 == 0 { Duration::ZERO } else { Duration::from_hours(1) },
        });
        for _ in 0..300 {
            model.step(&mut random);
        }
        // Whatever was refused, room brings it back.
        while model.published < model.frames.len() as u64 {
            model.read();
            model.watermark = model.read;
            model.log.reclaim(FrameNo(model.watermark)).unwrap();
            model.flush();
        }
        model.read();
        refused += model.refused;
        frames += model.frames.len();
    }
    println!("{frames} frames, refused {refused} times");
    assert!(seed.is_some() || (refused > 50 && frames > 5_000), "the histories reach the limit too");
}
