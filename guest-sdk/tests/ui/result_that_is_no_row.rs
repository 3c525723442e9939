#[derive(wafer::Row)]
struct Ride {
    seats: i64,
}

#[wafer::function]
fn seats(ride: Ride) -> i64 {
    ride.seats
}

fn main() {}
