//! All stores of a project on AWS, by two URLs.

use std::path::Path;
use std::sync::Arc;

use url::Url;
use wafer_core::Clock;
use wafer_store::{Error, Kind, OfflineTables, Result};

use crate::{Account, Artifacts, Bucket, Dynamo, DynamoConfig};

/// Everything that a project keeps on AWS.
#[derive(Debug)]
pub struct Stores {
    /// Online rows and metadata.
    pub dynamo: Arc<Dynamo>,
    /// Components and compiled code, below `artifacts/` of the folder.
    pub artifacts: Artifacts,
    /// Tables, below `offline/` of the folder.
    pub offline: OfflineTables,
    /// The folder.
    pub bucket: Bucket,
    /// Whose account it is.
    pub account: Account,
}

/// Opens a project's stores: its table, `dynamodb://TABLE[?region=…][&reads=eventual]`,
/// and its folder, `s3://BUCKET/FOLDER`. `copies` is a folder of this machine for
/// artifacts that were read; `seed` is something that no other process has.
///
/// # Errors
/// When there is no region, no credentials, no such table or bucket, or it belongs
/// to another project; when the bucket's server does not honour `If-None-Match: *`.
pub async fn open(
    project: &str,
    (online, objects): (&Url, &Url),
    copies: &Path,
    seed: u64,
    wall: Arc<dyn Clock>,
) -> Result<Stores> {
    let Options { region, consistent } = Options::of(online)?;
    let account = Account::from_environment(region).await?;
    let bucket = Bucket::open(&account, objects)?;
    let table = online.host_str().unwrap_or_default();
    let config = DynamoConfig {
        consistent,
        ..DynamoConfig::new(table, project, seed)
    };
    let dynamo = Dynamo::open(&account, config, bucket.folder(), Arc::clone(&wall)).await?;
    let dynamo = Arc::new(dynamo);
    bucket
        .check(dynamo.as_ref(), project, wall.as_ref())
        .await?;
    Ok(Stores {
        artifacts: Artifacts::open(bucket.clone(), copies)?,
        offline: OfflineTables::in_bucket(bucket.url("offline"), bucket.root())?,
        dynamo,
        bucket,
        account,
    })
}

struct Options {
    region: Option<String>,
    consistent: bool,
}

impl Options {
    fn of(url: &Url) -> Result<Self> {
        let mut options = Self {
            region: None,
            consistent: true,
        };
        for (name, value) in url.query_pairs() {
            match (name.as_ref(), value.as_ref()) {
                ("region", region) => options.region = Some(region.to_owned()),
                ("reads", "eventual") => options.consistent = false,
                ("reads", "consistent") => options.consistent = true,
                _ => {
                    let message = format!(
                        "`{name}={value}` in `{url}`: known are region=REGION and reads=consistent or \
                         eventual"
                    );
                    return Err(Error::new(Kind::Invalid, message));
                }
            }
        }
        Ok(options)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_say_what_is_wrong_with_them() {
        let options = |text: &str| Options::of(&Url::parse(text).unwrap());
        let found = options("dynamodb://t?region=eu-west-1&reads=eventual").unwrap();
        assert_eq!(found.region.as_deref(), Some("eu-west-1"));
        assert!(!found.consistent);
        assert!(options("dynamodb://t").unwrap().consistent);
        for text in ["dynamodb://t?reads=never", "dynamodb://t?zone=1"] {
            let Err(error) = options(text) else {
                panic!("{text}")
            };
            assert!(error.to_string().contains("known are region"), "{error}");
        }
    }
}
