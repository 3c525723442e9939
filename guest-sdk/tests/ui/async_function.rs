#[derive(wafer::Row)]
struct Ride {
    seats: i64,
}

#[wafer::function]
async fn seats(ride: Ride) -> Ride {
    ride
}

fn main() {}
