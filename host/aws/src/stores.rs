//! Opens all AWS stores of a project from two URLs.

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;

use url::Url;
use wafer_core::{Clock, without_userinfo};
use wafer_store::{Backend, Error, Kind, OfflineTables, Result, StoreLocation, Stores};

use crate::infrastructure::{check_bucket, check_table};
use crate::objects::check_folder;
use crate::{Account, Artifacts, Bucket, Dynamo, DynamoConfig};

/// The AWS backend: the online and metadata store in a DynamoDB table, everything else on S3.
///
/// The online URL is `dynamodb://TABLE[?region=REGION][&reads=eventual]`, and the objects URL is
/// `s3://BUCKET/FOLDER`, with artifacts below `artifacts/` and offline tables below `offline/`.
#[derive(Clone, Debug)]
pub struct Aws {
    /// The machine's clock.
    pub machine_clock: Arc<dyn Clock>,
    /// Seed of random numbers. It must be different in every process.
    pub seed: u64,
    /// Folder of artifacts that came with the program, which are used in the place of those on S3.
    pub shipped: Option<PathBuf>,
}

impl Account {
    /// Reads credentials and region like [`from_environment`](Self::from_environment), for the
    /// stores of a project: `online` may name the region.
    ///
    /// # Errors
    /// Returns the same errors, and [`Kind::Invalid`] for an unknown option of `online`.
    pub async fn of_stores(online: &Url) -> Result<Self> {
        Self::from_environment(Options::of(online)?.region).await
    }
}

#[async_trait]
impl Backend for Aws {
    fn online_form(&self) -> &'static str {
        "dynamodb://TABLE"
    }

    fn objects_form(&self) -> &'static str {
        "s3://BUCKET/FOLDER"
    }

    /// Opens the stores.
    ///
    /// # Errors
    /// Fails when there is no region, there are no credentials, or there is no such table or
    /// bucket; when the table belongs to another project; and when the bucket's server does not
    /// honour `If-None-Match: *`.
    async fn open(&self, location: &StoreLocation) -> Result<Stores> {
        let Options { region, .. } = Options::of(&location.online)?;
        check_folder(&location.objects)?;
        let account = Account::from_environment(region).await?;
        self.open_as(&account, location).await
    }
}

impl Aws {
    /// Opens the stores with the credentials, the region and the endpoints of an account.
    ///
    /// # Errors
    /// Fails when there is no such table or bucket; when the table belongs to another project; and
    /// when the bucket's server does not honour `If-None-Match: *`.
    pub async fn open_as(&self, account: &Account, location: &StoreLocation) -> Result<Stores> {
        let StoreLocation {
            project, online, ..
        } = location;
        let Options { consistent, .. } = Options::of(online)?;
        let bucket = Bucket::open(account, &location.objects)?;
        let table = online.host_str().unwrap_or_default();
        let config = DynamoConfig {
            folder: bucket.to_string(),
            consistent,
            ..DynamoConfig::new(table, project, self.seed)
        };
        let clock = &self.machine_clock;
        let dynamo = Dynamo::open(account, config, bucket.folder(), Arc::clone(clock)).await?;
        bucket.check(&dynamo, project, clock.as_ref()).await?;
        let artifacts = Artifacts::open(bucket.clone(), location.local.join("artifacts"))?;
        let artifacts = match &self.shipped {
            Some(folder) => artifacts.with_shipped(folder.clone()),
            None => artifacts,
        };
        let offline = OfflineTables::in_bucket(bucket.url("offline"), bucket.root())?;
        Ok(Stores::new(Arc::new(dynamo), Arc::new(artifacts), offline))
    }
}

/// Checks the URLs of stores that are to be made: that they name a table and a folder of a bucket
/// and nothing else, and that AWS takes the names of both. Opens nothing.
///
/// # Errors
/// Returns [`Kind::Invalid`] with the setting that is wrong.
pub fn check_new_stores(online: &Url, objects: &Url) -> Result<()> {
    if online.scheme() != "dynamodb" || objects.scheme() != "s3" {
        return Err(Error::invalid(format!(
            "the stores `{}` and `{}` are not on AWS; write dynamodb://TABLE and s3://BUCKET/FOLDER",
            without_userinfo(online.as_str()),
            without_userinfo(objects.as_str())
        )));
    }
    Options::of(online)?;
    check_folder(objects)?;
    check_table(online.host_str().unwrap_or_default())?;
    check_bucket(objects.host_str().unwrap_or_default())
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
        if !matches!(url.path(), "" | "/") || url.fragment().is_some() {
            return Err(Error::invalid(format!(
                "`{}` has more than a table and its options; write dynamodb://TABLE",
                without_userinfo(url.as_str())
            )));
        }
        for (name, value) in url.query_pairs() {
            match (name.as_ref(), value.as_ref()) {
                ("region", region) => options.region = Some(region.to_owned()),
                ("reads", "eventual") => options.consistent = false,
                ("reads", "consistent") => options.consistent = true,
                _ => {
                    let message = format!(
                        "`{name}={value}` in `{url}` is not an option of this store: write \
                         region=REGION, reads=consistent or reads=eventual"
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
        for (text, wanted) in [
            ("dynamodb://t?reads=never", "is not an option of this store"),
            ("dynamodb://t?zone=1", "is not an option of this store"),
            ("dynamodb://t/folder", "has more than a table"),
            ("dynamodb://t#1", "has more than a table"),
        ] {
            let Err(error) = options(text) else {
                panic!("{text}")
            };
            assert!(error.to_string().contains(wanted), "{error}");
        }
    }

    #[test]
    fn stores_that_are_to_be_made_have_names_that_aws_takes() {
        let check = |online: &str, objects: &str| {
            let url = |text: &str| Url::parse(text).unwrap();
            let checked = check_new_stores(&url(online), &url(objects));
            checked.err().map(|error| error.to_string())
        };
        let online = "dynamodb://flights?region=eu-west-1";
        assert_eq!(check(online, "s3://my-bucket/some/folder"), None);
        assert_eq!(check(online, "s3://my-bucket"), None);
        for (online, objects, wanted) in [
            (online, "s3://MY-BUCKET/flights", "it has `M`"),
            (online, "s3:/my-bucket", "it has 0 characters"),
            (online, "s3://my-bucket/flights?a", "has more than a bucket"),
            (online, "file:///tmp", "are not on AWS"),
            ("redis://flights", "s3://my-bucket", "are not on AWS"),
            ("dynamodb://t", "s3://my-bucket", "no table on DynamoDB"),
            (
                "dynamodb://flights?a=b",
                "s3://my-bucket",
                "is not an option of this store",
            ),
        ] {
            let said = check(online, objects).unwrap();
            assert!(said.contains(wanted), "{online} {objects}: {said}");
        }
    }
}
