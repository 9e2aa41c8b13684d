//! Where the program listens.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::reader::Reader;
use super::setting::Setting;
use crate::{Program, StartupError};

const HEADING: &str = "Where it listens";

/// `DMS_HTTP_ADDR`: REST, WebSocket, event streams, health and metrics.
pub const HTTP_ADDR: Setting = Setting {
    name: "DMS_HTTP_ADDR",
    heading: HEADING,
    value_name: "ADDRESS:PORT",
    default: "127.0.0.1:8000",
    help: "Address of REST, WebSocket, event streams, health and metrics\n\n\
        0.0.0.0:PORT listens on every IPv4 address and [::]:PORT on every address; then --auth has \
        to be given. Port 0 takes any free port.",
    from_file: false,
};

/// `DMS_GRPC_ADDR`: gRPC.
pub const GRPC_ADDR: Setting = Setting {
    name: "DMS_GRPC_ADDR",
    heading: HEADING,
    value_name: "ADDRESS:PORT",
    default: "127.0.0.1:50051",
    help: "Address of gRPC",
    from_file: false,
};

/// `DMS_TRUSTED_PROXIES`: how many proxies stand in front.
pub const TRUSTED_PROXIES: Setting = Setting {
    name: "DMS_TRUSTED_PROXIES",
    heading: HEADING,
    value_name: "N",
    default: "0",
    help: "How many proxies in front append to X-Forwarded-For\n\n\
        Callers have the address that the outermost of them saw. 0 takes the peer's own address: \
        the header could be anybody's invention.",
    from_file: false,
};

/// Most proxies that can stand in front.
const PROXIES_MAX: u8 = 10;

/// The settings of this file, in the order of `--help`.
pub(super) const ALL: &[Setting] = &[HTTP_ADDR, GRPC_ADDR, TRUSTED_PROXIES];

/// Where the program listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListenSettings {
    /// See [`HTTP_ADDR`].
    pub http: SocketAddr,
    /// See [`GRPC_ADDR`]; none if the program serves no gRPC.
    pub grpc: Option<SocketAddr>,
    /// See [`TRUSTED_PROXIES`].
    pub trusted_proxies: u8,
}

impl ListenSettings {
    pub(super) fn read(program: &Program, reader: &Reader<'_>) -> Result<Self, StartupError> {
        let http = http(program, reader)?;
        let grpc = match program.grpc_port {
            Some(port) => Some(address(reader, &GRPC_ADDR, port)?),
            None => None,
        };
        if grpc == Some(http) && http.port() != 0 {
            return Err(StartupError::usage(format!(
                "DMS_HTTP_ADDR and DMS_GRPC_ADDR are both {http}, give each its own port"
            )));
        }
        Ok(Self { http, grpc, trusted_proxies: trusted_proxies(reader)? })
    }

    /// The first address that other machines can reach, with its variable.
    pub fn off_loopback(&self) -> Option<(&'static str, SocketAddr)> {
        let all = [(HTTP_ADDR.name, Some(self.http)), (GRPC_ADDR.name, self.grpc)];
        all.into_iter()
            .filter_map(|(name, address)| address.map(|address| (name, address)))
            .find(|(_, address)| !is_loopback(address.ip()))
    }
}

/// The HTTP address alone, for the health check of a program that runs.
pub(super) fn http(program: &Program, reader: &Reader<'_>) -> Result<SocketAddr, StartupError> {
    address(reader, &HTTP_ADDR, program.http_port)
}

fn is_loopback(ip: IpAddr) -> bool {
    ip.to_canonical().is_loopback()
}

fn address(reader: &Reader<'_>, setting: &Setting, port: u16) -> Result<SocketAddr, StartupError> {
    let Some(given) = reader.text(setting)? else {
        return Ok(SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
    };
    let written = match given.value.strip_prefix("localhost:") {
        Some(port) => format!("127.0.0.1:{port}"),
        None => given.value.clone(),
    };
    written.parse().map_err(|_| {
        given.refuse_value("ADDRESS:PORT, for instance 127.0.0.1:8000, 0.0.0.0:8000 or [::1]:8000")
    })
}

fn trusted_proxies(reader: &Reader<'_>) -> Result<u8, StartupError> {
    let Some(given) = reader.text(&TRUSTED_PROXIES)? else { return Ok(0) };
    match given.value.parse() {
        Ok(proxies @ 0..=PROXIES_MAX) => Ok(proxies),
        _ => Err(given.refuse_value("a number from 0 to 10")),
    }
}

/// The address to connect to in order to reach a server that listens on `address` of this machine.
pub fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}
