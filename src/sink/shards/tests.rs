//! What is learned, and forgotten, of a stream's shards.

use std::time::Duration;

use super::*;

/// A hash of lane `lane`, at `place` of 16 within it.
fn hash(lane: u64, place: u64) -> KeyHash {
    KeyHash(lane << 56 | place << 52)
}

/// A stream whose shards begin at these hashes.
struct Stream {
    starts: Vec<(u64, &'static str)>,
    shards: Shards,
    now: Instant,
}

impl Stream {
    fn new(starts: &[(KeyHash, &'static str)]) -> Self {
        let starts = starts.iter().map(|(hash, id)| (hash.0, *id)).collect();
        Self { starts, shards: Shards::default(), now: Instant::now() }
    }

    fn id(&self, hash: KeyHash) -> &'static str {
        self.starts.iter().rev().find(|(start, _)| *start <= hash.0).map_or("", |(_, id)| *id)
    }

    fn put(&mut self, hash: KeyHash) {
        self.shards.accepted(hash, self.id(hash), 100, self.now);
    }

    fn known(&self, hash: KeyHash) -> Option<&str> {
        self.shards.of(hash).map(|place| &*self.shards.all[place.index()].id)
    }

    fn refuse(&mut self, hash: KeyHash) -> Vec<Cut> {
        self.now += Duration::from_millis(1);
        self.shards.refused(hash, false);
        self.shards.answered(self.now, self.now, &mut Jitter::new(1))
    }
}

#[test]
fn the_shard_of_a_lane_is_learned_from_its_answers_and_nothing_else() {
    let mut stream = Stream::new(&[(hash(0, 0), "a"), (hash(128, 0), "b")]);
    assert_eq!(stream.shards.of(hash(3, 0)), None);
    assert!(!stream.shards.refused(hash(3, 0), false), "nothing is known of an unknown shard");
    stream.put(hash(3, 1));
    stream.put(hash(200, 1));
    assert_eq!((stream.known(hash(3, 9)), stream.known(hash(200, 0))), (Some("a"), Some("b")));
    assert_eq!(stream.known(hash(4, 0)), None);
}

#[test]
fn a_lane_over_a_boundary_learns_where_it_is() {
    for edge in 1..16 {
        let mut stream = Stream::new(&[(hash(0, 0), "a"), (hash(7, edge), "b")]);
        let mut place = edge;
        for _ in 0..64 {
            place = (place * 5 + 3) % 16;
            stream.put(hash(7, place));
        }
        for place in 0..16 {
            assert_eq!(stream.known(hash(7, place)), Some(stream.id(hash(7, place))), "{place}, edge {edge}");
        }
    }
}

#[test]
fn children_take_the_place_of_a_closed_shard_in_all_lanes_at_once_and_its_rate_is_gone() {
    let mut stream = Stream::new(&[(hash(0, 0), "1 parent"), (hash(128, 0), "2 other")]);
    (0..256).for_each(|lane| stream.put(hash(lane, 0)));
    assert_eq!(stream.refuse(hash(5, 0)).len(), 1);
    assert_eq!(stream.refuse(hash(200, 0))[0].shard, "2 other");
    assert!(stream.shards.limited(hash(100, 0)).is_some());
    stream.starts = vec![(0, "3 left"), (hash(64, 0).0, "4 right"), (hash(128, 0).0, "2 other")];
    stream.put(hash(9, 0));
    assert_eq!(stream.shards.limited(hash(100, 0)), None, "a lane that nobody has answered since");
    assert_eq!(stream.known(hash(9, 0)), Some("3 left"));
    assert!(stream.shards.limited(hash(200, 0)).is_some(), "the other one keeps its rate");
    assert_eq!(stream.shards.summary(stream.now).limited, 1);
    (0..128).for_each(|lane| stream.put(hash(lane, 0)));
    assert_eq!((stream.known(hash(63, 0)), stream.known(hash(64, 0))), (Some("3 left"), Some("4 right")));
}

#[test]
fn a_merged_shard_is_forgotten_when_it_has_been_silent() {
    let mut stream = Stream::new(&[(hash(0, 0), "a"), (hash(128, 0), "b")]);
    (0..256).for_each(|lane| stream.put(hash(lane, 0)));
    stream.refuse(hash(3, 0));
    stream.refuse(hash(200, 0));
    stream.starts = vec![(0, "ab")];
    stream.put(hash(3, 0));
    assert!(stream.shards.limited(hash(201, 0)).is_some(), "of b nothing is known yet");
    stream.now += SILENT;
    stream.put(hash(200, 0));
    assert_eq!((stream.shards.limited(hash(201, 0)), stream.shards.limited), (None, 0));
}

#[test]
fn shards_that_come_and_go_leave_nothing_behind() {
    let mut shards = Shards::default();
    let now = Instant::now();
    for round in 0..50 {
        for lane in 0..256 {
            shards.accepted(hash(lane, 3), &format!("shardId-{round:06}-{lane:06}"), 1, now);
            shards.refused(hash(lane, 3), false);
        }
        shards.answered(now, now, &mut Jitter::new(1));
        assert_eq!(shards.limited, 256);
    }
    assert!(shards.all.len() <= 512 && shards.places.len() == 256, "{}", shards.all.len());
    assert_eq!(shards.summary(now + Duration::from_mins(1)), Summary::default());
    assert_eq!(shards.limited, 0);
}
