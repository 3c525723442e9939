use wafer::Table;

#[wafer::function]
fn predict(table: Table) -> Result<Table, String> {
    Ok(table)
}

fn main() {}
