#[derive(wafer::Row)]
struct Ride {
    seats: u64,
    code: Option<char>,
    at: std::time::SystemTime,
    stops: Vec<i32>,
}

fn main() {}
