//! Divides the sections among readers at a start: those far behind get a catch-up reader from the beginning.

use crate::position::FrameNo;
use crate::sink::sections::Section;

/// Assumed size of a frame in bytes. At a start, lanes that are a window of such frames behind the next group
/// are detached.
const START_FRAME: usize = 1024;

/// The least distance in frames between two groups, for windows of `window_bytes` bytes.
pub(super) fn least_distance(window_bytes: usize) -> u64 {
    (window_bytes / START_FRAME).max(1) as u64
}

/// Divides the sections into at most `groups_max` groups, those with the most progress first. Groups are
/// divided where the distance is at least `least` frames. If there are too many such places, the largest
/// distances are used.
pub(super) fn groups(
    mut order: Vec<(FrameNo, Section)>,
    least: u64,
    groups_max: usize,
) -> Vec<Vec<(FrameNo, Section)>> {
    order.sort_unstable_by(|one, other| other.cmp(one));
    let gaps = order.windows(2).zip(1..).filter_map(|(pair, at)| match pair {
        [ahead, behind] => Some((ahead.0.0 - behind.0.0, at)),
        _ => None,
    });
    let mut gaps: Vec<(u64, usize)> = gaps.filter(|(gap, _)| *gap >= least).collect();
    gaps.sort_unstable_by(|one, other| other.cmp(one));
    gaps.truncate(groups_max - 1);
    let mut cuts: Vec<usize> = gaps.into_iter().map(|(_, at)| at).collect();
    cuts.sort_unstable();
    let mut groups = vec![Vec::new()];
    for (index, reached) in order.into_iter().enumerate() {
        if cuts.contains(&index) {
            groups.push(Vec::new());
        }
        if let Some(group) = groups.last_mut() {
            group.push(reached);
        }
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distant_lanes_start_detached() {
        let start = |lanes: &[(u8, u64)]| {
            let at = |of: u8| lanes.iter().find(|(lane, _)| *lane == of).map_or(100_000, |(_, at)| *at);
            let reached = (0..=u8::MAX).map(|lane| (FrameNo(at(lane)), Section::lowest_of(lane)));
            let groups = groups(reached.collect(), 16_384, 4).into_iter().skip(1);
            let lanes = |group: Vec<(FrameNo, Section)>| group.into_iter().map(|(_, section)| section);
            groups.map(|group| lanes(group).collect()).collect::<Vec<Vec<_>>>()
        };
        for (what, lanes, expected) in [
            ("all alike", vec![], vec![]),
            ("near", vec![(3, 90_000)], vec![]),
            ("one far behind", vec![(3, 50_000)], vec![vec![3]]),
            ("two together", vec![(3, 50_000), (4, 50_001)], vec![vec![4, 3]]),
            ("two apart", vec![(3, 50_000), (4, 10_000)], vec![vec![3], vec![4]]),
            (
                "more than there are readers: of equal distances those behind",
                vec![(1, 80_000), (2, 50_000), (3, 30_000), (4, 10_000)],
                vec![vec![2], vec![3], vec![4]],
            ),
        ] {
            let expected: Vec<Vec<_>> = expected
                .iter()
                .map(|group: &Vec<u8>| group.iter().copied().map(Section::lowest_of).collect())
                .collect();
            assert_eq!(start(&lanes), expected, "{what}");
        }
    }
}
