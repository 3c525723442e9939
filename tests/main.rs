//! Behaviour seen from outside, mostly through the real binary: one folder for each room of the
//! product, and one file for each subject.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    missing_docs,
    reason = "tests"
)]

mod harness;

/// What a project defines, and how it is applied.
mod catalog {
    mod functions;
    mod new_project;
    mod plan;
    mod project_file;
}

/// From sources to feature groups.
mod pipelines {
    mod backfill;
    mod chains;
    mod distributed;
    mod events;
    mod expectations;
    mod late_events;
    mod run;
    mod schedule;
    mod sources;
    mod upstream_changes;
    mod versions;
    mod windows;
}

/// From labels to training sets and models.
mod training {
    mod labels;
    mod preprocessing;
    mod train;
    mod training_set;
}

/// Versions of models, and releases.
mod registry {
    mod models;
    mod releases;
}

/// From requests to features and predictions.
mod serving {
    mod batch_inference;
    mod endpoints;
    mod features;
    mod http;
    mod replay;
    mod request_log;
    mod shadows;
    mod skew;
    mod switching;
}

/// Functions and trainers in their sandbox.
mod sandbox {
    mod calls;
    mod components;
    mod registration;
    mod same_bytes;
    mod trainers;
}

/// What is stored, whatever happens to processes and disks.
mod stores {
    mod compaction;
    mod deletion;
    mod disk;
    mod kill;
    mod processes;
}

/// What there is on AWS only.
mod aws {
    mod deploy;
    mod iam;
    mod lambda {
        mod deployment;
        mod distributed;
        mod endpoints;
        mod events;
        mod schedule;
    }
    mod state_machine;
    mod stores;
}

/// Programs of others that compute the same, or that ask a server.
mod witnesses {
    mod clients;
    mod duckdb;
    mod model_files;
}
