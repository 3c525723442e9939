#[derive(wafer::Row)]
struct Ride(i64);

fn main() {}
