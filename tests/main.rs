//! Tests of behaviour that users can see, mostly through the real binary. There is one folder for
//! each area of the product, and one file for each subject.
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::print_stdout,
    missing_docs,
    reason = "tests"
)]

mod harness;

/// Projects: what they define, and how that is applied.
mod catalog {
    mod builds;
    mod functions;
    mod new_project;
    mod plan;
    mod project_file;
    mod show;
}

/// Feature pipelines, from sources to feature groups.
mod pipelines {
    mod backfill;
    mod chains;
    mod columns;
    mod csv_files;
    mod delta_tables;
    mod distributed;
    mod events;
    mod expectations;
    mod floats;
    mod formats;
    mod late_events;
    mod rejects;
    mod run;
    mod schedule;
    mod sources;
    mod ties;
    mod times;
    mod upstream_changes;
    mod values;
    mod versions;
    mod windows;
}

/// Training, from labels to training sets and models.
mod training {
    mod hostile_labels;
    mod known_rows;
    mod label_values;
    mod labels;
    mod left_overs;
    mod preprocessing;
    mod train;
    mod training_set;
}

/// Versions of models, and releases.
mod registry {
    mod models;
    mod releases;
}

/// Serving, from requests to features and predictions.
mod serving {
    mod access;
    mod batch_inference;
    mod connections;
    mod endpoints;
    mod feast;
    mod features;
    mod http;
    mod limits;
    mod replay;
    mod request_log;
    mod shadows;
    mod skew;
    mod stopping;
    mod switching;
}

/// Functions and trainers in the sandbox.
mod sandbox {
    mod calls;
    mod components;
    mod deceptive_text;
    mod failing_rows;
    mod interpreters;
    mod javascript;
    mod python;
    mod registration;
    mod same_bytes;
    mod trainers;
    mod wasi;
}

/// Stores whose processes are killed or whose disks are full, and their upkeep.
mod stores {
    mod compaction;
    mod damaged_definitions;
    mod deletion;
    mod disk;
    mod kill;
    mod lost_store;
    mod old_store;
    mod private;
    mod processes;
}

/// Parts that exist on AWS only.
mod aws {
    mod deploy;
    mod doctor;
    mod iam;
    mod lambda {
        mod deployment;
        mod distributed;
        mod endpoints;
        mod events;
        mod schedule;
        mod thaw;
    }
    mod redrive;
    mod state_machine;
    mod stores;
}

/// Comparisons with other programs that compute the same results, and clients of other systems.
mod witnesses {
    mod clients;
    mod duckdb;
    mod model_files;
    mod reports;
}
