#[derive(wafer::Row)]
struct Ride {
    seats: i64,
}

#[wafer::function(state = load)]
fn seats(ride: Ride) -> Ride {
    ride
}

fn main() {}
