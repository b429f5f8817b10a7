//! Randomness that prints its seed: `SEED=n cargo test name` runs the same again.

/// `SplitMix64`: small, fast, good enough to choose what a workload does next.
#[derive(Clone, Debug)]
pub struct Random(u64);

/// The seed of this run: `$SEED`, else the clock. Printed, so that a failure can be repeated.
pub fn seed() -> u64 {
    let seed = std::env::var("SEED").map_or_else(
        |_| {
            let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
            u64::try_from(now.as_nanos() & u128::from(u32::MAX)).unwrap()
        },
        |text| text.parse().expect("SEED is a number"),
    );
    println!("SEED={seed}");
    seed
}

impl Random {
    /// A generator that always gives the same from the same seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number below `limit`, which is at least 1.
    pub fn below(&mut self, limit: usize) -> usize {
        let limit = u64::try_from(limit).unwrap();
        usize::try_from(self.bits() % limit).unwrap()
    }

    /// True once in `times`.
    pub fn once_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    /// One of the choices.
    pub fn pick<'a, T>(&mut self, choices: &'a [T]) -> &'a T {
        &choices[self.below(choices.len())]
    }

    /// Printable text that does not compress: large ones are stored out of line (TOAST).
    pub fn text(&mut self, length: usize) -> String {
        std::iter::repeat_with(|| char::from(b'!' + u8::try_from(self.below(90)).unwrap()))
            .filter(|c| !matches!(c, '\'' | '\\'))
            .take(length)
            .collect()
    }
}
