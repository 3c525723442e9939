use wafer::{Init, Table};

struct Model;

fn load(_: &Init) -> Result<Model, String> {
    Ok(Model)
}

#[wafer::function(init = load)]
fn predict(table: Table, _: &Model) -> Result<Table, String> {
    Ok(table)
}

fn main() {}
