#[derive(wafer::Row)]
struct Ride {
    seats: i64,
}

#[wafer::function]
fn seats(ride: Ride, table: &Vec<i64>) -> Ride {
    let _ = table;
    ride
}

fn main() {}
