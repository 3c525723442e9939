struct Mean;

#[wafer::trainer]
impl Mean {
    fn feed(&mut self) {}
}

fn main() {}
