//! What is learned and forgotten about the shards of a stream.

use std::time::Duration;

use super::*;

/// A hash in lane `lane`, at `place` of 16 within it.
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
        self.shards.acknowledged(self.now, self.now, &mut Jitter::new(1))
    }
}

#[test]
fn lane_shard_is_learned_from_responses_only() {
    let mut stream = Stream::new(&[(hash(0, 0), "a"), (hash(128, 0), "b")]);
    assert_eq!(stream.shards.of(hash(3, 0)), None);
    assert!(!stream.shards.refused(hash(3, 0), false), "nothing is known of an unknown shard");
    stream.put(hash(3, 1));
    stream.put(hash(3, 9));
    stream.put(hash(200, 1));
    assert_eq!((stream.known(hash(3, 5)), stream.known(hash(200, 1))), (Some("a"), Some("b")));
    assert_eq!(stream.known(hash(4, 0)), None);
}

#[test]
fn lane_across_shards_learns_the_boundary() {
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
fn children_replace_closed_shard_in_all_lanes_at_once() {
    let mut stream = Stream::new(&[(hash(0, 0), "1 parent"), (hash(128, 0), "2 other")]);
    (0..256).for_each(|lane| stream.put(hash(lane, 0)));
    assert_eq!(stream.refuse(hash(5, 0)).len(), 1);
    assert_eq!(stream.refuse(hash(200, 0))[0].shard, "2 other");
    assert!(stream.shards.limited(hash(100, 0)).is_some());
    stream.starts = vec![(0, "3 left"), (hash(64, 0).0, "4 right"), (hash(128, 0).0, "2 other")];
    stream.put(hash(9, 0));
    assert_eq!(stream.shards.limited(hash(100, 0)), None, "a lane that no response has confirmed since");
    assert_eq!(stream.known(hash(9, 0)), Some("3 left"));
    assert!(stream.shards.limited(hash(200, 0)).is_some(), "the other one keeps its rate");
    assert_eq!(stream.shards.summary(stream.now).limited, 1);
    (0..128).for_each(|lane| stream.put(hash(lane, 0)));
    assert_eq!((stream.known(hash(63, 0)), stream.known(hash(64, 0))), (Some("3 left"), Some("4 right")));
}

#[test]
fn silent_merged_shard_is_forgotten() {
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
fn reshards_leave_no_state_behind() {
    let mut shards = Shards::default();
    let now = Instant::now();
    for round in 0..50 {
        for lane in 0..256 {
            shards.accepted(hash(lane, 3), &format!("shardId-{round:06}-{lane:06}"), 1, now);
            shards.refused(hash(lane, 3), false);
        }
        shards.acknowledged(now, now, &mut Jitter::new(1));
        assert_eq!(shards.limited, 256);
    }
    assert!(shards.all.len() <= 512 && shards.places.len() == 256, "{}", shards.all.len());
    assert_eq!(shards.summary(now + Duration::from_mins(1)), Summary::default());
    assert_eq!(shards.limited, 0);
}

#[test]
fn list_of_shards_is_believed_unless_answers_are_newer() {
    let mut stream = Stream::new(&[(hash(0, 0), "1"), (hash(85, 5), "2")]);
    let range = |id: &str, first: KeyHash, last: u64| HashRange { id: id.to_owned(), first: first.0, last };
    let list = [range("1", hash(0, 0), hash(85, 5).0 - 1), range("2", hash(85, 5), u64::MAX)];
    assert!(!stream.shards.wants_ranges());
    stream.put(hash(3, 0));
    assert!(stream.shards.wants_ranges());
    stream.shards.list(&list, stream.now);
    assert!(!stream.shards.wants_ranges());
    assert_eq!((stream.known(hash(85, 4)), stream.known(hash(85, 5))), (Some("1"), Some("2")));
    assert_eq!(stream.shards.around(hash(85, 4)), (0, hash(85, 5).0 - 1));
    // A child shard responds, and then an outdated list arrives.
    stream.starts = vec![(0, "3"), (hash(40, 7).0, "4"), (hash(85, 5).0, "2")];
    stream.put(hash(3, 0));
    assert!(stream.shards.wants_ranges());
    stream.shards.list(&list, stream.now);
    assert_eq!((stream.known(hash(3, 0)), stream.known(hash(40, 7))), (Some("3"), None));
    assert_eq!(stream.known(hash(200, 0)), Some("2"));
}

#[test]
fn refused_hash_between_shards_is_claimed_by_the_one_in_trouble() {
    let mut stream = Stream::new(&[(hash(0, 0), "a"), (hash(85, 8), "b")]);
    for place in [hash(80, 0), hash(85, 2), hash(85, 12), hash(90, 0)] {
        stream.put(place);
    }
    stream.shards.suspect(hash(85, 5), true, stream.now);
    assert_eq!(stream.known(hash(85, 5)), None, "neither is in trouble");
    stream.refuse(hash(80, 0));
    stream.shards.suspect(hash(85, 5), true, stream.now);
    assert_eq!((stream.known(hash(85, 4)), stream.known(hash(85, 6))), (Some("a"), None));
    assert_eq!(stream.shards.around(hash(85, 3)), (hash(80, 0).0, hash(85, 5).0));
    stream.put(hash(85, 8));
    assert_eq!(stream.known(hash(85, 5)), Some("a"));
    // It belonged to another shard.
    stream.shards.accepted(hash(85, 4), "b", 1, stream.now);
    assert_eq!((stream.known(hash(85, 3)), stream.known(hash(85, 5))), (None, Some("b")));
    stream.refuse(hash(90, 0));
    stream.shards.suspect(hash(85, 3), true, stream.now);
    assert_eq!(stream.known(hash(85, 3)), None, "both are in trouble");
}

#[test]
fn shards_beyond_the_limit_are_not_told_apart() {
    let mut shards = Shards::default();
    let now = Instant::now();
    for nth in 0..2 * SHARDS_MAX as u64 {
        shards.accepted(KeyHash(nth << 50), &format!("shardId-{nth:012}"), 1, now);
    }
    assert_eq!((shards.places.len(), shards.all.len()), (SHARDS_MAX, SHARDS_MAX));
    let later = now + FORGOTTEN;
    shards.accepted(KeyHash(u64::MAX), "shardId-999999999999", 1, later);
    assert_eq!(shards.places.len(), 1, "room is made by forgetting the silent ones");
}
