//! Numbers that look drawn and are the same in each run.

/// A linear congruential generator (Knuth's MMIX), of which the high bits are used.
#[derive(Clone, Debug)]
pub struct Draw(u64);

impl Draw {
    /// Begins anew.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A number below `bound`, which must not be 0.
    pub fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % bound
    }

    /// Different numbers below `bound`, as many as asked or as there are.
    pub fn different(&mut self, n: usize, bound: usize) -> Vec<usize> {
        let mut numbers = Vec::new();
        while numbers.len() < n.min(bound) {
            let number = self.below(bound);
            if !numbers.contains(&number) {
                numbers.push(number);
            }
        }
        numbers
    }
}
