#[derive(wafer::Row)]
struct Ride {
    seats: Option<Option<i64>>,
}

fn main() {}
