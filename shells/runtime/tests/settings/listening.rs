//! Addresses, bounds and logs, and who may call when others can.

use std::time::Duration;

use dms_runtime::settings::{AuthMode, LogFormat, TokenKey};

use crate::support::{KEY, good, refused};

#[test]
fn addresses() {
    for (given, expected) in [
        ("127.0.0.1:0", "127.0.0.1:0"),
        ("[::1]:8000", "[::1]:8000"),
        ("localhost:9000", "127.0.0.1:9000"),
        (" 127.0.0.2:80 ", "127.0.0.2:80"),
        ("[::ffff:127.0.0.1]:80", "[::ffff:127.0.0.1]:80"),
    ] {
        let settings = good(&[("DMS_HTTP_ADDR", given)]);
        assert_eq!(settings.listen.http, expected.parse().expect("an address"));
        assert_eq!(settings.listen.off_loopback(), None, "{given}");
    }
    for given in ["8000", ":8000", "127.0.0.1", "example.org:80", "127.0.0.1:65536", "http://a:1"] {
        refused(&[("DMS_HTTP_ADDR", given)], &["DMS_HTTP_ADDR", given, "127.0.0.1:8000"]);
        refused(&[("DMS_GRPC_ADDR", given)], &["DMS_GRPC_ADDR", given]);
    }
    refused(&[("DMS_HTTP_ADDR", "127.0.0.1:50051")], &["DMS_HTTP_ADDR", "DMS_GRPC_ADDR"]);
    good(&[("DMS_HTTP_ADDR", "127.0.0.1:0"), ("DMS_GRPC_ADDR", "127.0.0.1:0")]);
}

#[test]
fn off_loopback_somebody_has_to_decide_who_may_call() {
    for exposed in [
        ("DMS_HTTP_ADDR", "0.0.0.0:8000"),
        ("DMS_HTTP_ADDR", "[::]:8000"),
        ("DMS_GRPC_ADDR", "10.0.0.1:1"),
    ] {
        refused(&[exposed], &[exposed.0, exposed.1, "DMS_AUTH", "required", "off"]);
        refused(&[exposed, ("DMS_JWT_SECRET", KEY)], &["DMS_AUTH"]);
        refused(
            &[exposed, ("DMS_AUTH", "required")],
            &["DMS_AUTH", "DMS_JWT_SECRET", "DMS_JWKS_URL"],
        );
        let open = good(&[exposed, ("DMS_AUTH", "off")]).auth;
        assert_eq!((open.mode, &open.key), (AuthMode::Off, &TokenKey::Nothing));
        assert!(!open.serves_development_tokens());
        let closed = good(&[exposed, ("DMS_AUTH", "required"), ("DMS_JWT_SECRET", KEY)]).auth;
        assert_eq!(closed.mode, AuthMode::Required);
        assert!(!closed.serves_development_tokens());
    }
}

#[test]
fn numbers_have_bounds() {
    let settings = good(&[("DMS_MAX_CONTENT_BYTES", "1"), ("DMS_SHUTDOWN_GRACE_S", "0")]);
    assert_eq!(settings.limits.content_bytes_max, 1);
    assert_eq!(settings.limits.shutdown_grace, Duration::ZERO);
    for given in ["0", "-1", "+5", "25MiB", "1e6", "99999999999999999999", "1099511627777"] {
        refused(
            &[("DMS_MAX_CONTENT_BYTES", given)],
            &["DMS_MAX_CONTENT_BYTES", given, "from 1 to"],
        );
    }
    for given in ["3601", "20s", "1.5"] {
        refused(&[("DMS_SHUTDOWN_GRACE_S", given)], &["DMS_SHUTDOWN_GRACE_S", given, "0 to 3600"]);
    }
}

#[test]
fn logging() {
    for given in ["debug", "WARN", "off", "info,dms_search=debug", "warn,tower::layer=trace"] {
        assert_eq!(good(&[("DMS_LOG", given)]).log.filter, given);
    }
    for given in ["inof", "info,", "dms=loud", "info,nothing"] {
        refused(&[("DMS_LOG", given)], &["DMS_LOG", given]);
    }
    assert_eq!(good(&[("DMS_LOG_FORMAT", "json")]).log.format, Some(LogFormat::Json));
    assert_eq!(good(&[("DMS_LOG_FORMAT", "text")]).log.format, Some(LogFormat::Text));
    refused(&[("DMS_LOG_FORMAT", "xml")], &["DMS_LOG_FORMAT", "xml", "text or json"]);
}
