struct Ride {
    seats: i64,
}

#[derive(wafer::Row)]
struct Out {
    seats: i64,
}

#[wafer::function]
fn seats(ride: Ride) -> Out {
    Out { seats: ride.seats }
}

fn main() {}
