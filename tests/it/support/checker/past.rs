//! The checker in windows, for a stream that is checked for hours: each window is a history that was published whole, and what is
//! remembered of older ones is bounded.
//!
//! A window is checked like a stream of its own, after the repeats of older windows were taken out. A repeat has the bytes it
//! had; and because everything of a window was committed after the window before was published, every new event has a higher
//! `sequence` than all that went before. A repeat of something that is older than all that is remembered is no event of the
//! window's history: it is reported as unexpected.

use std::collections::{HashMap, VecDeque};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use super::{Change, Report, StreamRecord, check, parse, shorten};

/// Windows that are remembered. What is repeated late comes seconds late, and a window is longer.
const REMEMBERED: usize = 8;

/// What older windows published.
#[derive(Debug, Default)]
pub struct Past {
    /// Event ids and the hash of their lines, oldest window first.
    windows: VecDeque<HashMap<String, u64>>,
    /// The highest `sequence` of all.
    highest: String,
}

impl Past {
    /// Compares the history of a window with what the stream gave since the last one was closed.
    pub fn check(&self, history: &[Change], records: &[StreamRecord]) -> Report {
        let mut report = Report::default();
        let records: Vec<_> =
            records.iter().filter_map(|record| self.without_repeats(record, &mut report)).collect();
        report += check(history, &records);
        report
    }

    /// The same, and remembers the window.
    pub fn close(&mut self, history: &[Change], records: &[StreamRecord]) -> Report {
        let report = self.check(history, records);
        let mut window = HashMap::new();
        for line in records.iter().flat_map(lines) {
            let Some((id, event)) = parse(line, "") else { continue };
            window.insert(id, fingerprint(line));
            let sequence = event.map(|event| event.sequence).unwrap_or_default();
            self.highest = sequence.max(std::mem::take(&mut self.highest));
        }
        self.windows.push_back(window);
        if self.windows.len() > REMEMBERED {
            self.windows.pop_front();
        }
        report
    }

    /// A record without the lines that older windows had; `None` if nothing is left.
    fn without_repeats(&self, record: &StreamRecord, report: &mut Report) -> Option<StreamRecord> {
        let is_new = |line: &&[u8]| {
            let Some((id, event)) = parse(line, "") else { return true };
            let Some(was) = self.windows.iter().find_map(|window| window.get(&id)) else {
                if let Some(event) = event.filter(|event| event.sequence <= self.highest) {
                    let finding = format!("{event} is new, but is not above the older {}", self.highest);
                    report.reordered.push(finding);
                }
                return true;
            };
            if *was == fingerprint(line) {
                report.duplicates += 1;
            } else {
                report.altered.push(format!("{id} had other bytes in an older window: {}", shorten(line)));
            }
            false
        };
        let data: Vec<u8> = lines(record).filter(is_new).flatten().copied().collect();
        (!data.is_empty()).then(|| StreamRecord { data, ..record.clone() })
    }
}

fn lines(record: &StreamRecord) -> impl Iterator<Item = &[u8]> {
    record.data.split_inclusive(|&byte| byte == b'\n')
}

fn fingerprint(line: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    line.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::super::tests::{edit, history, record, stream};
    use super::*;

    /// The stream of the checker's tests in windows of these lengths; what the windows say together.
    fn in_windows(lengths: &[usize], records: &[StreamRecord]) -> Report {
        let (mut past, mut report) = (Past::default(), Report::default());
        let (history, mut first) = (history(), 0);
        for &length in lengths {
            let end = first + length;
            let last = if end == history.len() { records.len() } else { end };
            report += past.close(&history[first..end], &records[first..last]);
            first = end;
        }
        report
    }

    #[test]
    fn correct_stream_passes_in_windows_and_counts_repeats() {
        let mut records = stream();
        in_windows(&[7], &records).assert_clean();
        records.extend([records[0].clone(), records[3].clone(), records[6].clone()]);
        for lengths in [&[7][..], &[3, 4], &[1, 2, 4], &[1, 1, 1, 1, 1, 1, 1]] {
            let report = in_windows(lengths, &records);
            report.assert_clean();
            assert_eq!((report.committed, report.published, report.duplicates), (7, 7, 3), "{lengths:?}");
        }
    }

    #[test]
    fn partly_repeated_record_keeps_new_line() {
        let mut records = stream();
        let repeat = records[2].data.clone();
        records[6].data.splice(0..0, repeat);
        let report = in_windows(&[4, 3], &records);
        assert_eq!((report.published, report.duplicates), (7, 1));
        report.assert_clean();
    }

    #[test]
    fn faults_planted_across_windows_are_found() {
        let mut altered = stream();
        altered.push(altered[1].clone());
        edit(&mut altered[7], "\"version\":1", "\"version\":7");
        assert_eq!(in_windows(&[4, 3], &altered).altered.len(), 1);

        // The window before was published whole; an event of it under a new id comes too late to be new.
        let mut again = stream();
        again.push(again[1].clone());
        edit(&mut again[7], "0-1", "other");
        let report = in_windows(&[4, 3], &again);
        assert!(!report.reordered.is_empty() && report.unexpected.len() == 1, "{report}");

        let mut lost = stream();
        lost.remove(5);
        lost.push(lost[0].clone());
        assert_eq!(in_windows(&[4, 3], &lost).lost.len(), 1);
    }

    #[test]
    fn memory_is_bounded_and_older_repeats_are_still_found() {
        let change =
            |nr: usize| super::super::tests::change(&nr.to_string(), super::super::Op::Inserted, Some(1));
        let mut past = Past::default();
        for nr in 0..3 * REMEMBERED {
            past.close(&[change(nr)], &[record(0, nr, &change(nr))]).assert_clean();
        }
        assert_eq!(past.windows.len(), REMEMBERED);
        let report = past.check(&[], &[record(0, 1, &change(1))]);
        assert!(!report.unexpected.is_empty() && !report.reordered.is_empty(), "{report}");
    }
}
