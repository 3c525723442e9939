#[derive(wafer::Row)]
struct Ride {
    seats: u64,
}

fn main() {}
