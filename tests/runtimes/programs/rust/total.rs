pub fn total(last: u32) -> u32 {
    (1..=last).sum()
}
