//! Tables in a local folder: registers with `deltalake` a store of files that closes to others what
//! it writes below the folders of tables.

use std::collections::BTreeSet;
use std::fmt;
use std::ops::Range;
use std::path::{Path as FilePath, PathBuf};
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use async_trait::async_trait;
use bytes::Bytes;
use deltalake::DeltaResult;
use deltalake::logstore::{
    ObjectStoreFactory, ObjectStoreRef, StorageConfig, object_store_factories,
};
use futures::stream::BoxStream;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, RenameOptions, Result, UploadPart,
};
use url::Url;

use crate::private::{close_file, close_folder};

/// The folders of tables that this process has opened. `deltalake` looks object stores up by URL in
/// a registry that is global to the process.
#[derive(Clone, Debug, Default)]
struct Folders(Arc<RwLock<BTreeSet<PathBuf>>>);

/// Closes to others what is written below a folder by `deltalake`.
pub(super) fn keep_private(folder: PathBuf) {
    static FOLDERS: OnceLock<Folders> = OnceLock::new();
    let folders = FOLDERS.get_or_init(|| {
        let folders = Folders::default();
        let scheme = Url::parse("file://").expect("`file://` is a valid URL");
        object_store_factories().insert(scheme, Arc::new(folders.clone()));
        folders
    });
    let mut known = folders.0.write().unwrap_or_else(PoisonError::into_inner);
    known.insert(folder);
}

impl ObjectStoreFactory for Folders {
    fn parse_url_opts(
        &self,
        url: &Url,
        _config: &StorageConfig,
    ) -> DeltaResult<(ObjectStoreRef, Path)> {
        let store = PrivateFiles {
            inner: Arc::new(LocalFileSystem::new()),
            folders: self.clone(),
        };
        Ok((Arc::new(store), Path::from_url_path(url.path())?))
    }
}

impl Folders {
    /// Closes a file, and the folders in which it is, up to the folder of tables.
    fn close(&self, file: &FilePath) -> std::io::Result<()> {
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let Some(root) = known.iter().find(|root| file.starts_with(root)).cloned() else {
            return Ok(());
        };
        drop(known);
        close_file(file)?;
        let above = file.ancestors().skip(1);
        let mut above = above.take_while(|folder| folder.starts_with(&root));
        above.try_for_each(close_folder)
    }
}

/// The files of this machine.
#[derive(Clone, Debug)]
struct PrivateFiles {
    inner: Arc<LocalFileSystem>,
    folders: Folders,
}

impl PrivateFiles {
    /// Closes what was written.
    fn close(&self, location: &Path) -> Result<()> {
        let file = self.inner.path_to_filesystem(location)?;
        let closed = self.folders.close(&file);
        closed.map_err(|e| object_store::Error::Generic {
            store: "private files",
            source: Box::new(e),
        })
    }
}

impl fmt::Display for PrivateFiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.inner, f)
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl ObjectStore for PrivateFiles {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> Result<PutResult> {
        let put = self.inner.put_opts(location, payload, options).await?;
        self.close(location)?;
        Ok(put)
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        let inner = self.inner.put_multipart_opts(location, options).await?;
        Ok(Box::new(PrivateUpload {
            inner,
            location: location.clone(),
            files: self.clone(),
        }))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.inner.get_opts(location, options).await
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.inner.get_ranges(location, ranges).await
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    fn list_with_offset(
        &self,
        prefix: Option<&Path>,
        offset: &Path,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list_with_offset(prefix, offset)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await?;
        self.close(to)
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        self.inner.rename_opts(from, to, options).await?;
        self.close(to)
    }
}

/// A file that is written in parts.
#[derive(Debug)]
struct PrivateUpload {
    inner: Box<dyn MultipartUpload>,
    location: Path,
    files: PrivateFiles,
}

#[async_trait]
impl MultipartUpload for PrivateUpload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        self.inner.put_part(data)
    }

    async fn complete(&mut self) -> Result<PutResult> {
        let put = self.inner.complete().await?;
        self.files.close(&self.location)?;
        Ok(put)
    }

    async fn abort(&mut self) -> Result<()> {
        self.inner.abort().await
    }
}
