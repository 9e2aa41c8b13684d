//! The five services as processes, behind the proxy that is made from the gateway's settings.

use std::io::{BufRead as _, BufReader};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use super::engines::{System, curl, wait_for};
use super::{DMS, root};

/// Each with the variables of its own, in the order of starting.
const SERVICES: [&str; 5] = [
    "document-service",
    "signature-service",
    "search-service",
    "websocket-service",
    "event-processor",
];

/// A running program of the system; killed with this value.
pub struct Process {
    pub name: &'static str,
    pub child: Child,
    pub http: SocketAddr,
    /// What it printed when it was up.
    pub greeting: String,
    log: PathBuf,
}

impl Process {
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Memory in MiB that it holds.
    fn resident_mib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()));
        let status = status.unwrap_or_default();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap_or_default();
        let kib = line.split_whitespace().nth(1).and_then(|n| n.parse::<u64>().ok());
        kib.unwrap_or_default() / 1024
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// All of them, and the way to each.
pub struct Services {
    /// The proxy first, then in the order of [`SERVICES`].
    pub processes: Vec<Process>,
    pub http: SocketAddr,
    pub grpc: SocketAddr,
}

impl Services {
    /// Starts everything on the engines, and waits until it is ready and changes flow.
    pub fn start(
        data: &Path,
        address: &str,
        system: &mut System,
        variables: &[(&str, &str)],
    ) -> Self {
        let grpc = free_address("127.0.0.1:0");
        let mut processes: Vec<Process> = Vec::new();
        let begun = Instant::now();
        for name in SERVICES {
            let process = service(name, data, grpc, system, variables);
            if processes.is_empty() {
                // It makes the tables, which the connector wants to see.
                ready(&process, begun);
                system.connect();
            }
            processes.push(process);
        }
        for process in &processes[1..] {
            ready(process, begun);
        }
        for process in &processes {
            println!("{}: {} MiB", process.name, process.resident_mib());
        }
        let http = free_address(address);
        processes.insert(0, proxy(data, http, &processes));
        println!("five services on the engines: ready after {:.1?}", begun.elapsed());
        Self { processes, http, grpc }
    }

    /// Starts everything without engines, then those, and waits until it is ready.
    pub fn start_before(data: &Path, system: &mut System, engines: impl FnOnce()) -> Self {
        let grpc = free_address("127.0.0.1:0");
        let mut processes: Vec<_> =
            SERVICES.iter().map(|name| service(name, data, grpc, system, &[])).collect();
        for process in &processes {
            let (status, body) = curl("GET", &format!("http://{}/readyz", process.http), &[]);
            assert_eq!(status, 503, "{}: {body}", process.name);
        }
        engines();
        let begun = Instant::now();
        ready(&processes[0], begun);
        system.connect();
        for process in &processes[1..] {
            ready(process, begun);
        }
        let http = free_address("127.0.0.1:0");
        processes.insert(0, proxy(data, http, &processes));
        Self { processes, http, grpc }
    }

    /// Where a path is served: by the gateway, or past it what it doesn't show to anybody.
    pub fn address(&self, path: &str) -> SocketAddr {
        let path = path.strip_prefix("/v1").unwrap_or(path);
        let name = if path.starts_with("/auth/token") {
            "websocket-service"
        } else if ["/healthz", "/readyz", "/metrics"].contains(&path) {
            "document-service"
        } else {
            return self.http;
        };
        self.process(name).http
    }

    pub fn process(&self, name: &str) -> &Process {
        self.processes.iter().find(|process| process.name == name).expect("a service of that name")
    }
}

/// A free port, if the address leaves the choice.
fn free_address(address: &str) -> SocketAddr {
    let address: SocketAddr = address.parse().expect("an address");
    if address.port() != 0 {
        return address;
    }
    TcpListener::bind(address).and_then(|taken| taken.local_addr()).expect("a free port")
}

fn log_of(data: &Path, name: &str) -> PathBuf {
    data.with_extension(format!("{name}.log"))
}

/// Starts one service on a port of the system's choice.
pub fn service(
    name: &'static str,
    data: &Path,
    grpc: SocketAddr,
    system: &System,
    variables: &[(&str, &str)],
) -> Process {
    let binary = Path::new(DMS).with_file_name(name);
    let log = log_of(data, name);
    let mut command = Command::new(&binary);
    command.env_clear();
    for name in ["PATH", "HOME"] {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
    command
        .env("DMS_HTTP_ADDR", "127.0.0.1:0")
        .env("DMS_GRPC_ADDR", grpc.to_string())
        .env("DMS_DOCUMENT_GRPC_URL", format!("http://{grpc}"))
        .env("DMS_DATA_DIR", data)
        .env("DMS_SERVICE_TOKEN", "of-services-in-a-test-0123456789abcdef")
        .env("DMS_TRUSTED_PROXIES", "1")
        .envs(system.variables())
        .envs(variables.iter().copied())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(append(&log));
    let mut child = command.spawn().unwrap_or_else(|error| {
        panic!("{}: {error}; build the whole workspace first", binary.display())
    });
    let mut lines = BufReader::new(child.stdout.take().expect("its output")).lines();
    let greeting = lines.find_map(|line| line.ok().filter(|line| line.contains("http://")));
    // Whatever it prints later must not fill the pipe.
    std::thread::spawn(move || lines.for_each(drop));
    let address = greeting.as_deref().and_then(|line| line.split_once("http://"));
    let Some(http) = address.and_then(|(_, address)| address.trim().parse().ok()) else {
        let status = child.wait();
        let log = std::fs::read_to_string(&log).unwrap_or_default();
        panic!("{name} ended with {status:?} and logged:\n{log}");
    };
    Process { name, child, http, greeting: greeting.unwrap_or_default(), log }
}

fn append(log: &Path) -> std::fs::File {
    std::fs::File::options().create(true).append(true).open(log).expect("a log file")
}

fn ready(process: &Process, since: Instant) {
    let url = format!("http://{}/readyz", process.http);
    let mut last = String::new();
    let asked = Instant::now();
    wait_for(process.name, || {
        let (status, body) = curl("GET", &url, &[]);
        last = body;
        assert!(
            asked.elapsed() < super::PATIENCE,
            "{} isn't ready: {last}\n{}",
            process.name,
            process.log()
        );
        (status == 200).then_some(())
    });
    println!("{}: ready after {:.1?}", process.name, since.elapsed());
}

/// The proxy that stands in for the gateway, with settings made from the gateway's.
fn proxy(data: &Path, address: SocketAddr, services: &[Process]) -> Process {
    let home = data.with_extension("proxy");
    std::fs::create_dir_all(&home).expect("a folder");
    let mut generator = Command::new("/usr/bin/python3");
    generator
        .arg(root().join("deploy/native/gateway.py"))
        .args(["--listen", &address.to_string(), "--home"])
        .arg(&home);
    for service in services {
        generator.args(["--upstream", &format!("{}={}", service.name, service.http)]);
    }
    let generated = generator.arg(root().join("deploy/kong/kong.yml")).output().expect("python3");
    assert!(generated.status.success(), "{}", String::from_utf8_lossy(&generated.stderr));
    let settings = home.join("nginx.conf");
    std::fs::write(&settings, generated.stdout).expect("a file");
    let log = log_of(data, "proxy");
    let child = Command::new("nginx")
        .arg("-c")
        .arg(&settings)
        // Its folder may be closed to anybody but this account.
        .args(["-e", "stderr", "-g", "daemon off; master_process off;"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(append(&log))
        .spawn()
        .expect("nginx");
    let process = Process { name: "proxy", child, http: address, greeting: String::new(), log };
    wait_for("the proxy to listen", || TcpStream::connect(address).ok());
    process
}
