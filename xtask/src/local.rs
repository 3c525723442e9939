//! Servers on this machine that speak the protocols of AWS, for tests and development.
//!
//! `infra/local/README.md` describes them. [`Servers`] are two servers for DynamoDB, one of which
//! also serves S3, Step Functions and Lambda. [`Ceph`] is a real S3 store, for slow tests.

use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::{Result, python, root, run, spawn, target};

/// How long a server may take to start.
const START: Duration = Duration::from_secs(60);

/// Running servers. They are killed when this is dropped.
pub(crate) struct Servers {
    children: Vec<Child>,
    dynamodb: u16,
    ministack: u16,
}

impl Drop for Servers {
    fn drop(&mut self) {
        for child in &mut self.children {
            // An error only means that the process has ended already.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Servers {
    /// Installs what is missing, starts all servers, and waits until they listen.
    pub(crate) fn start() -> Result<Self> {
        let python = python("ministack", "infra/local/requirements.txt")?;
        let program = python.with_file_name("ministack");
        let mut servers = Self {
            children: Vec::new(),
            dynamodb: free_port()?,
            ministack: free_port()?,
        };
        let mut dynamodb = Command::new(target().join("release/wafer-local-dynamodb"));
        dynamodb.arg(servers.dynamodb.to_string());
        servers.launch(&mut dynamodb, servers.dynamodb)?;
        let mut ministack = Command::new(program);
        ministack
            .env("BIND_HOST", "127.0.0.1")
            .env("GATEWAY_PORT", servers.ministack.to_string())
            .env("LAMBDA_EXECUTOR", "local")
            // These services are not used, and would listen on fixed ports.
            .env("SFTP_ENABLED", "0")
            .env("IOT_MTLS_ENABLED", "0");
        servers.launch(&mut ministack, servers.ministack)?;
        Ok(servers)
    }

    /// Starts a server, and waits until it listens on a port.
    fn launch(&mut self, command: &mut Command, port: u16) -> Result {
        let name = Path::new(command.get_program()).display().to_string();
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|e| format!("{name}: {e}"))?;
        self.children.push(child);
        let started = Instant::now();
        while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
            if started.elapsed() > START {
                return Err(format!("{name} does not listen on port {port}"));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    /// Returns the environment variables with which tests and tools of AWS find the servers.
    pub(crate) fn environment(&self) -> Vec<(&'static str, String)> {
        let at = |port: u16| format!("http://127.0.0.1:{port}");
        vec![
            ("AWS_ACCESS_KEY_ID", "local".to_owned()),
            ("AWS_SECRET_ACCESS_KEY", "local".to_owned()),
            ("AWS_REGION", "us-east-1".to_owned()),
            ("AWS_EC2_METADATA_DISABLED", "true".to_owned()),
            ("AWS_ENDPOINT_URL_DYNAMODB", at(self.dynamodb)),
            ("AWS_ENDPOINT_URL_S3", at(self.ministack)),
            ("AWS_ENDPOINT_URL_SFN", at(self.ministack)),
            ("AWS_ENDPOINT_URL_LAMBDA", at(self.ministack)),
            ("WAFER_TEST_SECOND_DYNAMODB", at(self.ministack)),
        ]
    }
}

/// The RADOS gateway of Ceph: a real S3 store, which answers requests concurrently. It is stopped
/// when this is dropped.
pub(crate) struct Ceph {
    folder: PathBuf,
    port: u16,
}

impl Drop for Ceph {
    fn drop(&mut self) {
        // The script prints what it cannot stop.
        let _ = Self::script().arg("stop").arg(&self.folder).status();
    }
}

impl Ceph {
    const PACKAGES: [&str; 4] = ["ceph-mon", "ceph-osd", "ceph-common", "radosgw"];
    const KEYS: [(&str, &str); 2] = [
        ("AWS_ACCESS_KEY_ID", "AKIALOCALTEST000000A"),
        ("AWS_SECRET_ACCESS_KEY", "local-secret"),
    ];
    const BUCKET: &str = "wafer-tests";

    fn script() -> Command {
        let mut script = Command::new(root().join("infra/local/ceph.sh"));
        script.envs(Self::KEYS);
        script
    }

    /// Installs what is missing, starts the store, and makes a bucket.
    pub(crate) fn start() -> Result<Self> {
        if Command::new("radosgw").arg("--version").output().is_err() {
            let packages = [
                &["install", "-y", "--no-install-recommends"],
                &Self::PACKAGES[..],
            ];
            run(Path::new("apt-get"), &packages.concat())?;
        }
        let ceph = Self {
            folder: target().join("ceph"),
            port: free_ports(3)?,
        };
        let port = ceph.port.to_string();
        spawn(Self::script().arg("start").arg(&ceph.folder).arg(&port))?;
        let mut bucket = Command::new("python3");
        bucket
            .arg(root().join("infra/local/bucket.py"))
            .args([&format!("http://127.0.0.1:{port}"), Self::BUCKET])
            .envs(Self::KEYS);
        spawn(&mut bucket)?;
        Ok(ceph)
    }

    /// Returns the environment variables with which tests find the store. They replace those of
    /// [`Servers`].
    pub(crate) fn environment(&self) -> Vec<(&'static str, String)> {
        let mut all = vec![
            (
                "AWS_ENDPOINT_URL_S3",
                format!("http://127.0.0.1:{}", self.port),
            ),
            ("WAFER_TEST_BUCKET", Self::BUCKET.to_owned()),
        ];
        all.extend(Self::KEYS.map(|(name, value)| (name, value.to_owned())));
        all
    }
}

/// Returns the first of `count` consecutive ports that nobody listens on.
fn free_ports(count: u16) -> Result<u16> {
    for _ in 0..100 {
        let first = free_port()?;
        let is_free = |port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok();
        if first < u16::MAX - count && (first..first + count).all(is_free) {
            return Ok(first);
        }
    }
    Err("there are no consecutive free ports".to_owned())
}

/// Returns a port that nobody listens on.
fn free_port() -> Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(|e| e.to_string())?;
    let address = listener.local_addr().map_err(|e| e.to_string())?;
    Ok(address.port())
}
