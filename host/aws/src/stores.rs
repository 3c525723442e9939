//! Opens all AWS stores of a project from two URLs.

use std::path::Path;
use std::sync::Arc;

use url::Url;
use wafer_core::Clock;
use wafer_store::{Error, Kind, OfflineTables, Result};

use crate::{Account, Artifacts, Bucket, Dynamo, DynamoConfig};

/// All stores of a project on AWS.
#[derive(Debug)]
pub struct Stores {
    /// The online and metadata store.
    pub dynamo: Arc<Dynamo>,
    /// Components, compiled code and assets, below `artifacts/` of the folder.
    pub artifacts: Artifacts,
    /// The offline tables, below `offline/` of the folder.
    pub offline: OfflineTables,
    /// The project's folder on S3.
    pub bucket: Bucket,
    /// The account that was used to open the stores.
    pub account: Account,
}

/// Opens the stores of a project.
///
/// The online URL is `dynamodb://TABLE[?region=REGION][&reads=eventual]`, and the objects URL is
/// `s3://BUCKET/FOLDER`. `copies` is a local folder that caches artifacts. `seed` must be
/// different in every process. `wall` is the machine's clock.
///
/// # Errors
/// Fails when there is no region, there are no credentials, or there is no such table or bucket;
/// when the table belongs to another project; and when the bucket's server does not honour
/// `If-None-Match: *`.
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

/// Options in the query of the online URL.
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
    fn options_of_online_url_are_parsed_or_refused() {
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
