#[derive(wafer::Row)]
struct Ride<'a> {
    name: &'a str,
}

fn main() {}
