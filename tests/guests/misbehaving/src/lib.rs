//! A component that does whatever its parameter `mode` says a component must not.
//!
//! It is written against the contract itself: the SDK would not let it.

#![cfg(target_arch = "wasm32")]

use std::cell::Cell;
use std::hint::black_box;

use wafer::bindings::transform::{Guest, Parameter};
use wafer::bindings::types::{
    Batch, CallError, Column, Data, DataType, Field, Mapping, Output, RowError, Signature, Varying,
};

thread_local! {
    static MODE: Cell<&'static str> = const { Cell::new("") };
    static CALLS: Cell<i64> = const { Cell::new(0) };
}

struct Misbehaving;

fn mode() -> &'static str {
    MODE.get()
}

fn spin() {
    let mut turns = 0u64;
    loop {
        turns = black_box(turns + 1);
    }
}

fn recurse(depth: u64) -> u64 {
    if black_box(depth) == u64::MAX {
        0
    } else {
        recurse(depth + 1) + black_box(1)
    }
}

fn field(name: &str, data_type: DataType) -> Field {
    Field {
        name: name.to_owned(),
        data_type,
        nullable: false,
        doc: String::new(),
    }
}

impl Guest for Misbehaving {
    fn load(_asset: String, _chunk: Vec<u8>, _last: bool) {
        if mode() == "spin-in-load" {
            spin();
        }
    }

    fn init(parameters: Vec<Parameter>) -> Result<(), String> {
        let given = parameters
            .into_iter()
            .find(|p| p.name == "mode")
            .map(|p| p.value);
        MODE.set(given.unwrap_or_default().leak());
        match mode() {
            "refuse-init" => Err("I would rather not".to_owned()),
            "spin-in-init" => {
                spin();
                Ok(())
            }
            "panic-in-init" => panic!("no init today"),
            "grow-in-init" => {
                black_box(vec![1u8; 1 << 30]);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn describe() -> Signature {
        match mode() {
            "spin-in-describe" => spin(),
            "panic-in-describe" => panic!("indescribable"),
            _ => {}
        }
        let mut inputs = vec![
            field("id", DataType::Int64),
            field("at", DataType::Timestamp),
            field("x", DataType::Float64),
        ];
        if mode() == "same-name-twice" {
            inputs.push(field("id", DataType::Int64));
        }
        if mode() == "bad-name" {
            inputs.push(field("no such-name", DataType::Int64));
        }
        if mode() == "bad-vector" {
            inputs.push(field("v", DataType::Vector(0)));
        }
        Signature {
            inputs,
            outputs: vec![
                field("id", DataType::Int64),
                field("at", DataType::Timestamp),
                field("text", DataType::Utf8),
                field("y", DataType::Float64),
            ],
            mapping: if mode() == "bad-sources" {
                Mapping::OneToMany
            } else {
                Mapping::OneToOne
            },
            doc: "Misbehaves.".to_owned(),
        }
    }

    fn call(input: Batch) -> Result<Output, CallError> {
        let rows = input.rows as usize;
        let [id, at, x]: [Column; 3] = input
            .columns
            .try_into()
            .map_err(|_| CallError::InvalidInput("columns".into()))?;
        let Data::Float64(x) = x.data else {
            return Err(CallError::InvalidInput("x".into()));
        };
        let mut y = x.clone();
        let mut texts: Vec<Vec<u8>> = vec![b"ok".to_vec(); rows];
        CALLS.set(CALLS.get() + 1);
        match mode() {
            "spin-in-call" => spin(),
            "panic-in-call" => panic!("cannot go on with {} rows", rows),
            "panic-on-seven" => {
                let Data::Int64(ids) = &id.data else {
                    unreachable!()
                };
                assert!(!ids.contains(&7), "seven is too much");
            }
            "grow-in-call" => {
                let mut hoard = Vec::new();
                loop {
                    hoard.push(black_box(vec![1u8; 1 << 20]));
                }
            }
            "recurse-in-call" => y[0] = recurse(0) as f64,
            "refuse-call" => return Err(CallError::Failed("not this batch".to_owned())),
            "count-calls" => y.fill(CALLS.get() as f64),
            "neighbours" => y.fill(x.iter().sum()),
            "nan" => y.fill(f64::from_bits(0xfff8_dead_beef_0001)),
            "bad-utf8" => texts[rows - 1] = vec![0xff, 0xfe],
            "too-much-output" => texts.fill(vec![b'x'; 1 << 20]),
            "log-flood" => {
                for n in 0..100_000 {
                    wafer::log(wafer::Level::Warn, &format!("line {n} of very many"));
                }
            }
            _ => {}
        }
        let mut offsets = vec![0];
        let mut bytes = Vec::new();
        for text in &texts {
            bytes.extend_from_slice(text);
            offsets.push(bytes.len() as i32);
        }
        let plain = |data| Column {
            data,
            validity: None,
        };
        let mut columns = vec![
            id,
            at,
            plain(Data::Utf8(Varying { offsets, bytes })),
            plain(Data::Float64(y)),
        ];
        let mut output_rows = input.rows;
        let mut source_rows = None;
        let mut row_errors = Vec::new();
        match mode() {
            "wrong-length" => columns[3] = plain(Data::Float64(vec![0.0; rows + 1])),
            "wrong-type" => columns[3] = plain(Data::Int64(vec![0; rows])),
            "wrong-columns" => drop(columns.pop()),
            "wrong-rows" => output_rows += 1,
            "decreasing-offsets" => {
                let offsets = (0..=rows as i32).rev().collect();
                columns[2] = plain(Data::Utf8(Varying {
                    offsets,
                    bytes: vec![b'x'; rows],
                }));
            }
            "offsets-past-the-end" => {
                let offsets = (0..=rows as i32).map(|o| o * 1_000).collect();
                columns[2] = plain(Data::Utf8(Varying {
                    offsets,
                    bytes: vec![b'x'; rows],
                }));
            }
            "short-bitmap" => columns[3].validity = Some(Vec::new()),
            "null-in-required" => columns[3].validity = Some(vec![0; rows.div_ceil(8)]),
            "bad-sources" => source_rows = Some((0..input.rows).rev().collect()),
            "error-out-of-range" => row_errors.push(RowError {
                row: input.rows,
                message: "gone".to_owned(),
            }),
            "errors-unsorted" => {
                row_errors = [1, 0]
                    .map(|row| RowError {
                        row,
                        message: "bad".to_owned(),
                    })
                    .to_vec();
            }
            "one-bad-row" => row_errors.push(RowError {
                row: 0,
                message: "this one is bad".to_owned(),
            }),
            _ => {}
        }
        Ok(Output {
            batch: Batch {
                rows: output_rows,
                columns,
            },
            source_rows,
            row_errors,
        })
    }
}

wafer::bindings::export!(Misbehaving with_types_in wafer::bindings);
