//! The DynamoDB table of a project: its key schema, and the calls that Wafer makes.
//!
//! The partition key is a string that says what kind of item it is. The sort key is binary:
//!
//! | partition key | sort key | item |
//! | --- | --- | --- |
//! | `l` | – | the [layout](crate::layout): the project of the table, and the epochs of groups |
//! | `m` | name | an object of the metadata store |
//! | `o/TABLE/EPOCH/BUCKET` | entity key | [state of an entity](crate::item) |
//! | `p/ID/PART` | – | a part of an entity's state that is too large for one item |
//! | `t/TABLE` | entity key | the deletion of an entity |
//! | `s/SOURCE/DIGEST` | – | the identity of an event, and the commit that it belongs to |
//! | `c/COMMIT` | – | the record of a complete commit |
//! | `j` | – | the [journal](crate::outbox) of commits that wait to be appended to the offline tables |

use std::collections::HashMap;
use std::time::Duration;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::operation::delete_item::DeleteItemError;
use aws_sdk_dynamodb::operation::put_item::PutItemError;
use aws_sdk_dynamodb::operation::update_item::UpdateItemError;
use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_dynamodb::types::{
    AttributeValue, ConsumedCapacity, DeleteRequest, KeysAndAttributes, PutRequest,
    ReturnConsumedCapacity, ReturnValue, ReturnValuesOnConditionCheckFailure, Select, WriteRequest,
};
use futures::future::BoxFuture;
use futures::{FutureExt as _, StreamExt as _, TryStreamExt as _};
use wafer_store::{Error, Kind, Result};

use crate::bulk::Pacer;
use crate::call::{Backoff, CallFailure, Operation, call, longest_call};
use crate::random::Random;
use crate::usage::Usage;

/// Maximum number of keys of one `BatchGetItem`
/// (<https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_BatchGetItem.html>).
pub(crate) const MAX_GET_KEYS: usize = 100;
/// Maximum number of requests of one `BatchWriteItem`.
const MAX_WRITE_REQUESTS: usize = 25;
/// Maximum size of one `BatchWriteItem` in bytes. DynamoDB allows 16 MB, but a call must be sent
/// within the timeout of an attempt even over a slow connection.
const MAX_WRITE_BYTES: usize = 1 << 20;
/// Maximum size of an entity's state in one item, in bytes. DynamoDB allows 400 KB per item,
/// including the other attributes and all attribute names
/// (<https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/ServiceQuotas.html>).
pub(crate) const MAX_VALUE: usize = 320 << 10;
/// Maximum number of concurrent calls of one operation.
const CONCURRENT_CALLS: usize = 32;

/// Is called with the bytes of an item that a call brought, and not with those of all items by then
/// as [`CountRead`](wafer_store::CountRead) is, because calls run at the same time. Its error ends
/// the read that the call belongs to.
pub(crate) type CountItem<'a> = &'a (dyn Fn(u64) -> Result<()> + Send + Sync);

/// Runs calls with limited concurrency, and returns their results in order.
pub(crate) async fn run_concurrently<T: Send>(
    calls: Vec<BoxFuture<'_, Result<T>>>,
) -> Result<Vec<T>> {
    futures::stream::iter(calls)
        .buffered(CONCURRENT_CALLS)
        .try_collect()
        .await
}

pub(crate) type Item = HashMap<String, AttributeValue>;

/// The primary key of an item.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Key {
    pub(crate) partition: String,
    pub(crate) sort: Vec<u8>,
}

impl Key {
    pub(crate) fn new(partition: impl Into<String>, sort: &[u8]) -> Self {
        Self {
            partition: partition.into(),
            sort: sort.to_vec(),
        }
    }

    /// Returns the key of the only item of a partition. Its sort key is one zero byte, because
    /// DynamoDB does not allow an empty one.
    pub(crate) fn single(partition: impl Into<String>) -> Self {
        Self::new(partition, &[0])
    }

    fn of(item: &Item) -> Option<Self> {
        Some(Self::new(
            item.get("pk")?.as_s().ok()?.clone(),
            item.get("sk")?.as_b().ok()?.as_ref(),
        ))
    }

    pub(crate) fn item(&self) -> Item {
        Item::from([
            ("pk".to_owned(), text(&self.partition)),
            ("sk".to_owned(), bytes(&self.sort)),
        ])
    }
}

pub(crate) fn text(value: &str) -> AttributeValue {
    AttributeValue::S(value.to_owned())
}

pub(crate) fn bytes(value: &[u8]) -> AttributeValue {
    AttributeValue::B(Blob::new(value))
}

pub(crate) fn number(value: impl ToString) -> AttributeValue {
    AttributeValue::N(value.to_string())
}

pub(crate) fn bytes_of<'a>(item: &'a Item, name: &str) -> Option<&'a [u8]> {
    Some(item.get(name)?.as_b().ok()?.as_ref())
}

pub(crate) fn number_of<N: std::str::FromStr>(item: &Item, name: &str) -> Option<N> {
    item.get(name)?.as_n().ok()?.parse().ok()
}

pub(crate) fn text_of<'a>(item: &'a Item, name: &str) -> Option<&'a str> {
    item.get(name)?.as_s().ok().map(String::as_str)
}

/// The condition of a write, as an expression and its values.
#[derive(Clone, Debug)]
pub(crate) struct Condition {
    pub(crate) expression: &'static str,
    pub(crate) values: Vec<(&'static str, AttributeValue)>,
}

impl Condition {
    pub(crate) fn absent() -> Self {
        Self {
            expression: "attribute_not_exists(pk)",
            values: Vec::new(),
        }
    }

    /// Requires that the item has this version, or for `None`, that it does not exist.
    pub(crate) fn version(version: Option<u64>) -> Self {
        match version {
            None => Self::absent(),
            Some(version) => Self {
                expression: "n = :n",
                values: vec![(":n", number(version))],
            },
        }
    }

    fn text(&self) -> String {
        self.expression.to_owned()
    }

    fn named_values(&self) -> Option<HashMap<String, AttributeValue>> {
        named(self.values.iter())
    }
}

/// Returns the values that expressions name, or `None` if they name none: DynamoDB refuses an empty
/// map.
fn named<'a>(
    values: impl Iterator<Item = &'a (&'static str, AttributeValue)>,
) -> Option<HashMap<String, AttributeValue>> {
    let named: HashMap<_, _> = values
        .map(|(name, value)| ((*name).to_owned(), value.clone()))
        .collect();
    (!named.is_empty()).then_some(named)
}

/// Which writes a read sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Consistency {
    /// Every write that returned before.
    Strong,
    /// Not those of about the last second, perhaps, for half the cost.
    Eventual,
}

impl Consistency {
    fn is_strong(self) -> bool {
        self == Self::Strong
    }
}

/// The outcome of a conditional write.
#[derive(Debug)]
pub(crate) enum WriteOutcome {
    /// The item was written. `before` is the previous item, if the call returns it.
    Done { before: Option<Item> },
    /// The condition did not hold for the `stored` item. If `attempts` is more than one, the
    /// stored item may be the result of an earlier attempt whose response was lost.
    ConditionFailed { stored: Option<Item>, attempts: u32 },
}

/// Splits requests into batches of at most [`MAX_WRITE_REQUESTS`] and about [`MAX_WRITE_BYTES`].
fn batches(requests: Vec<WriteRequest>) -> Vec<Vec<WriteRequest>> {
    let (mut batches, mut size): (Vec<Vec<WriteRequest>>, usize) = (Vec::new(), 0);
    for request in requests {
        let more = size_of_request(&request);
        match batches.last_mut() {
            Some(batch) if batch.len() < MAX_WRITE_REQUESTS && size + more <= MAX_WRITE_BYTES => {
                batch.push(request);
                size += more;
            }
            _ => {
                batches.push(vec![request]);
                size = more;
            }
        }
    }
    batches
}

/// Estimates the size of a write request in bytes, by its binary attributes.
fn size_of_request(request: &WriteRequest) -> usize {
    let item = request.put_request().map(|put| put.item().values());
    item.map_or(0, size_of_values)
}

fn size_of_values<'a>(values: impl Iterator<Item = &'a AttributeValue>) -> usize {
    let bytes = |value: &AttributeValue| value.as_b().map_or(16, |bytes| bytes.as_ref().len());
    values.map(bytes).sum()
}

/// Estimates the write units of an item by its size in bytes: one for each KiB that is begun
/// (<https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/on-demand-capacity-mode.html>).
pub(crate) fn write_units(bytes: usize) -> f64 {
    bytes.div_ceil(1 << 10).max(1) as f64
}

/// A DynamoDB table.
#[derive(Debug)]
pub(crate) struct Table {
    pub(crate) client: Client,
    pub(crate) name: String,
    pub(crate) region: String,
    pub(crate) random: Random,
    pub(crate) usage: Usage,
    /// How rows are read.
    pub(crate) consistency: Consistency,
    /// How long reads and writes are retried.
    pub(crate) retry_for: (Duration, Duration),
    pub(crate) pacer: Pacer,
}

impl Table {
    pub(crate) fn operation<'a>(&'a self, action: &'a str) -> Operation<'a> {
        Operation {
            action,
            table: &self.name,
            region: &self.region,
        }
    }

    pub(crate) fn read_backoff(&self) -> Backoff<'_> {
        Backoff::of_read(&self.random, self.retry_for.0)
    }

    /// Returns how long a call that reads takes at most.
    pub(crate) fn longest_read(&self) -> Duration {
        longest_call(self.retry_for.0)
    }

    pub(crate) fn write_backoff(&self) -> Backoff<'_> {
        Backoff::of_write(&self.random, self.retry_for.1, &self.pacer)
    }

    fn used(&self, action: &'static str, capacity: Option<&ConsumedCapacity>) {
        let units = capacity.and_then(ConsumedCapacity::capacity_units);
        self.usage.add(action, units.unwrap_or(0.0));
    }

    /// Returns whether the service describes a table, as DynamoDB does if it does not refuse to.
    pub(crate) async fn is_described(&self) -> Result<bool> {
        let operation = self.operation("dynamodb:DescribeTable");
        let attempt = || self.client.describe_table().table_name(&self.name).send();
        let answer = call(operation, &mut self.read_backoff(), attempt)
            .await
            .map_err(|e| e.into_error(operation))?;
        Ok(answer.table.is_some())
    }

    /// Reads items with strong consistency, in concurrent calls of up to 100 keys. Keys that
    /// DynamoDB leaves unprocessed are requested again, so the result is always complete.
    pub(crate) async fn get_many(&self, keys: &[Key]) -> Result<HashMap<Key, Item>> {
        self.get_all(keys, Consistency::Strong, &|_| Ok(())).await
    }

    /// Reads items like [`get_many`](Self::get_many), with the given consistency. Each item is
    /// counted when its call is answered.
    pub(crate) async fn get_all(
        &self,
        keys: &[Key],
        consistency: Consistency,
        count: CountItem<'_>,
    ) -> Result<HashMap<Key, Item>> {
        let calls = keys
            .chunks(MAX_GET_KEYS)
            .map(|keys| self.get_batch(keys, consistency, count).boxed());
        let found = run_concurrently(calls.collect()).await?;
        Ok(found.into_iter().flatten().collect())
    }

    async fn get_batch(
        &self,
        keys: &[Key],
        consistency: Consistency,
        count: CountItem<'_>,
    ) -> Result<Vec<(Key, Item)>> {
        let mut wanted: Vec<Item> = keys.iter().map(Key::item).collect();
        let mut found = Vec::with_capacity(keys.len());
        let mut backoff = self.read_backoff();
        let operation = self.operation("dynamodb:BatchGetItem");
        loop {
            let request = KeysAndAttributes::builder()
                .set_keys(Some(wanted))
                .consistent_read(consistency.is_strong())
                .build()
                .expect("it has keys");
            let attempt = || {
                self.client
                    .batch_get_item()
                    .request_items(&self.name, request.clone())
                    .return_consumed_capacity(ReturnConsumedCapacity::Total)
                    .send()
            };
            let answer = call(operation, &mut backoff, attempt)
                .await
                .map_err(|e| e.into_error(operation))?;
            for capacity in answer.consumed_capacity() {
                self.used("BatchGetItem", Some(capacity));
            }
            let items = answer.responses.into_iter().flat_map(HashMap::into_values);
            for item in items.flatten() {
                let values = item.values().filter_map(|value| value.as_b().ok());
                count(values.map(|bytes| bytes.as_ref().len() as u64).sum())?;
                let key = Key::of(&item).ok_or_else(|| self.corrupt("an item without a key"))?;
                found.push((key, item));
            }
            let rest = answer.unprocessed_keys.unwrap_or_default();
            let rest: Vec<Item> = rest.into_values().flat_map(|rest| rest.keys).collect();
            if rest.is_empty() {
                return Ok(found);
            }
            if !backoff.wait().await {
                return Err(self.busy(rest.len(), "keys", "BatchGetItem"));
            }
            wanted = rest;
        }
    }

    /// Reads one item with strong consistency.
    pub(crate) async fn get(&self, key: &Key) -> Result<Option<Item>> {
        self.get_one(key, Consistency::Strong).await
    }

    /// Reads one item for half the cost. Writes of about the last second may be missing.
    pub(crate) async fn get_eventual(&self, key: &Key) -> Result<Option<Item>> {
        self.get_one(key, Consistency::Eventual).await
    }

    async fn get_one(&self, key: &Key, consistency: Consistency) -> Result<Option<Item>> {
        let operation = self.operation("dynamodb:GetItem");
        let attempt = || {
            self.client
                .get_item()
                .table_name(&self.name)
                .set_key(Some(key.item()))
                .consistent_read(consistency.is_strong())
                .return_consumed_capacity(ReturnConsumedCapacity::Total)
                .send()
        };
        let answer = call(operation, &mut self.read_backoff(), attempt)
            .await
            .map_err(|e| e.into_error(operation))?;
        self.used("GetItem", answer.consumed_capacity.as_ref());
        Ok(answer.item)
    }

    /// Writes an item if a condition holds.
    pub(crate) async fn put(
        &self,
        item: &Item,
        condition: Option<&Condition>,
    ) -> Result<WriteOutcome> {
        let units = write_units(size_of_values(item.values()));
        self.pacer.wait(units).await;
        let operation = self.operation("dynamodb:PutItem");
        let mut backoff = self.write_backoff();
        let attempt = || {
            self.client
                .put_item()
                .table_name(&self.name)
                .set_item(Some(item.clone()))
                .set_condition_expression(condition.map(Condition::text))
                .set_expression_attribute_values(condition.and_then(Condition::named_values))
                .return_consumed_capacity(ReturnConsumedCapacity::Total)
                .return_values_on_condition_check_failure(
                    ReturnValuesOnConditionCheckFailure::AllOld,
                )
                .send()
        };
        match call(operation, &mut backoff, attempt).await {
            Ok(answer) => {
                self.used("PutItem", answer.consumed_capacity.as_ref());
                Ok(WriteOutcome::Done { before: None })
            }
            Err(CallFailure::Refused(PutItemError::ConditionalCheckFailedException(held))) => {
                Ok(WriteOutcome::ConditionFailed {
                    stored: held.item,
                    attempts: backoff.attempts(),
                })
            }
            Err(failure) => Err(failure.into_error(operation)),
        }
    }

    /// Updates attributes of an item, or creates it, if a condition holds. Returns the previous
    /// item.
    pub(crate) async fn update(
        &self,
        key: &Key,
        update: &str,
        condition: &Condition,
        values: &[(&'static str, AttributeValue)],
    ) -> Result<WriteOutcome> {
        let units = write_units(size_of_values(values.iter().map(|(_, value)| value)));
        self.pacer.wait(units).await;
        let operation = self.operation("dynamodb:UpdateItem");
        let mut backoff = self.write_backoff();
        let attempt = || {
            self.client
                .update_item()
                .table_name(&self.name)
                .set_key(Some(key.item()))
                .update_expression(update)
                .condition_expression(condition.expression)
                .set_expression_attribute_values(named(values.iter().chain(&condition.values)))
                .return_values(ReturnValue::AllOld)
                .return_consumed_capacity(ReturnConsumedCapacity::Total)
                .return_values_on_condition_check_failure(
                    ReturnValuesOnConditionCheckFailure::AllOld,
                )
                .send()
        };
        match call(operation, &mut backoff, attempt).await {
            Ok(answer) => {
                self.used("UpdateItem", answer.consumed_capacity.as_ref());
                Ok(WriteOutcome::Done {
                    before: answer.attributes,
                })
            }
            Err(CallFailure::Refused(UpdateItemError::ConditionalCheckFailedException(held))) => {
                Ok(WriteOutcome::ConditionFailed {
                    stored: held.item,
                    attempts: backoff.attempts(),
                })
            }
            Err(failure) => Err(failure.into_error(operation)),
        }
    }

    /// Deletes an item if a condition holds.
    pub(crate) async fn delete(
        &self,
        key: &Key,
        condition: Option<&Condition>,
    ) -> Result<WriteOutcome> {
        self.pacer.wait(write_units(0)).await;
        let operation = self.operation("dynamodb:DeleteItem");
        let mut backoff = self.write_backoff();
        let attempt = || {
            self.client
                .delete_item()
                .table_name(&self.name)
                .set_key(Some(key.item()))
                .set_condition_expression(condition.map(Condition::text))
                .set_expression_attribute_values(condition.and_then(Condition::named_values))
                .return_consumed_capacity(ReturnConsumedCapacity::Total)
                .return_values_on_condition_check_failure(
                    ReturnValuesOnConditionCheckFailure::AllOld,
                )
                .send()
        };
        match call(operation, &mut backoff, attempt).await {
            Ok(answer) => {
                self.used("DeleteItem", answer.consumed_capacity.as_ref());
                Ok(WriteOutcome::Done { before: None })
            }
            Err(CallFailure::Refused(DeleteItemError::ConditionalCheckFailedException(held))) => {
                Ok(WriteOutcome::ConditionFailed {
                    stored: held.item,
                    attempts: backoff.attempts(),
                })
            }
            Err(failure) => Err(failure.into_error(operation)),
        }
    }

    /// Reads the items of a partition whose sort keys begin with `prefix`, in the order of their
    /// sort keys.
    pub(crate) async fn query(&self, partition: &str, prefix: &[u8]) -> Result<Vec<Item>> {
        let operation = self.operation("dynamodb:Query");
        let mut items = Vec::new();
        let mut start: Option<Item> = None;
        loop {
            let attempt = || {
                let mut query = self
                    .client
                    .query()
                    .table_name(&self.name)
                    .consistent_read(true)
                    .return_consumed_capacity(ReturnConsumedCapacity::Total)
                    .expression_attribute_values(":p", text(partition))
                    .set_exclusive_start_key(start.clone());
                query = if prefix.is_empty() {
                    query.key_condition_expression("pk = :p")
                } else {
                    query
                        .key_condition_expression("pk = :p AND begins_with(sk, :s)")
                        .expression_attribute_values(":s", bytes(prefix))
                };
                query.send()
            };
            let answer = call(operation, &mut self.read_backoff(), attempt)
                .await
                .map_err(|e| e.into_error(operation))?;
            self.used("Query", answer.consumed_capacity.as_ref());
            items.extend(answer.items.unwrap_or_default());
            start = answer.last_evaluated_key.filter(|key| !key.is_empty());
            if start.is_none() {
                return Ok(items);
            }
        }
    }

    /// Reads some attributes of the first items of a partition, as many as fit in one response
    /// (1 MB of items).
    pub(crate) async fn first_page(&self, partition: &str, attributes: &str) -> Result<Vec<Item>> {
        let operation = self.operation("dynamodb:Query");
        let attempt = || {
            self.client
                .query()
                .table_name(&self.name)
                .consistent_read(true)
                .return_consumed_capacity(ReturnConsumedCapacity::Total)
                .key_condition_expression("pk = :p")
                .expression_attribute_values(":p", text(partition))
                .projection_expression(attributes)
                .send()
        };
        let answer = call(operation, &mut self.read_backoff(), attempt)
            .await
            .map_err(|e| e.into_error(operation))?;
        self.used("Query", answer.consumed_capacity.as_ref());
        Ok(answer.items.unwrap_or_default())
    }

    /// Returns the number of items of a partition.
    pub(crate) async fn count(&self, partition: &str) -> Result<u64> {
        let operation = self.operation("dynamodb:Query");
        let mut count = 0;
        let mut start: Option<Item> = None;
        loop {
            let attempt = || {
                self.client
                    .query()
                    .table_name(&self.name)
                    .consistent_read(true)
                    .select(Select::Count)
                    .return_consumed_capacity(ReturnConsumedCapacity::Total)
                    .key_condition_expression("pk = :p")
                    .expression_attribute_values(":p", text(partition))
                    .set_exclusive_start_key(start.clone())
                    .send()
            };
            let answer = call(operation, &mut self.read_backoff(), attempt)
                .await
                .map_err(|e| e.into_error(operation))?;
            self.used("Query", answer.consumed_capacity.as_ref());
            count += u64::try_from(answer.count).unwrap_or(0);
            start = answer.last_evaluated_key.filter(|key| !key.is_empty());
            if start.is_none() {
                return Ok(count);
            }
        }
    }

    /// Writes items without a condition, in concurrent batch calls.
    pub(crate) async fn put_all(&self, items: Vec<Item>) -> Result<()> {
        let put = |item| {
            let put = PutRequest::builder().set_item(Some(item)).build();
            WriteRequest::builder()
                .put_request(put.expect("it has an item"))
                .build()
        };
        self.write_all(items.into_iter().map(put).collect()).await
    }

    /// Deletes items without a condition, in concurrent batch calls.
    pub(crate) async fn delete_all(&self, keys: &[Key]) -> Result<()> {
        let delete = |key: &Key| {
            let delete = DeleteRequest::builder().set_key(Some(key.item())).build();
            WriteRequest::builder()
                .delete_request(delete.expect("it has a key"))
                .build()
        };
        self.write_all(keys.iter().map(delete).collect()).await
    }

    async fn write_all(&self, requests: Vec<WriteRequest>) -> Result<()> {
        let calls = batches(requests)
            .into_iter()
            .map(|requests| self.write_batch(requests).boxed());
        run_concurrently(calls.collect()).await?;
        Ok(())
    }

    async fn write_batch(&self, requests: Vec<WriteRequest>) -> Result<()> {
        let units = requests
            .iter()
            .map(|request| write_units(size_of_request(request)));
        self.pacer.wait(units.sum()).await;
        let mut waiting = requests;
        let mut backoff = self.write_backoff();
        let operation = self.operation("dynamodb:BatchWriteItem");
        loop {
            let attempt = || {
                self.client
                    .batch_write_item()
                    .request_items(&self.name, waiting.clone())
                    .return_consumed_capacity(ReturnConsumedCapacity::Total)
                    .send()
            };
            let answer = call(operation, &mut backoff, attempt)
                .await
                .map_err(|e| e.into_error(operation))?;
            for capacity in answer.consumed_capacity() {
                self.used("BatchWriteItem", Some(capacity));
            }
            let rest = answer.unprocessed_items.unwrap_or_default();
            let rest: Vec<WriteRequest> = rest.into_values().flatten().collect();
            if rest.is_empty() {
                return Ok(());
            }
            self.pacer.throttled();
            if rest.len() < waiting.len() {
                // DynamoDB makes progress, so start the retry time anew.
                backoff = self.write_backoff();
            }
            if !backoff.wait().await {
                return Err(self.busy(rest.len(), "items", "BatchWriteItem"));
            }
            waiting = rest;
        }
    }

    fn busy(&self, rest: usize, of: &str, action: &str) -> Error {
        let message = format!(
            "DynamoDB table `{}` in {} left {rest} {of} of {action} undone until the time was over: its \
             throughput is exceeded; try again",
            self.name, self.region
        );
        Error::new(Kind::Unavailable, message)
    }

    /// Returns an error for table content that this program cannot have written.
    pub(crate) fn corrupt(&self, what: &str) -> Error {
        let message = format!("DynamoDB table `{}` has {what}", self.name);
        Error::new(Kind::Corrupt, message)
    }
}
