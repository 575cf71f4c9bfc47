//! Names are looked up here, so that none leads to an address that is out of reach: in the client of HTTP itself, and before
//! anything else is sent.

use std::io;
use std::net::SocketAddr;

use outrider_protocol::collect::{Output, Reach, To};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

/// Looks names up, and answers with what is within reach.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Resolver(pub(crate) Reach);

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let reach = self.0;
        Box::pin(async move {
            let all: Vec<_> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            let within: Vec<_> = all.iter().copied().filter(|it| reach.allows(it.ip())).collect();
            if within.is_empty() && !all.is_empty() {
                return Err(
                    io::Error::new(io::ErrorKind::PermissionDenied, out_of_reach(name.as_str())).into()
                );
            }
            Ok::<Addrs, _>(Box::new(within.into_iter()))
        })
    }
}

fn out_of_reach(name: &str) -> String {
    format!(
        "{name} leads to link-local addresses or a cloud's metadata, where nothing goes that a backend ordered"
    )
}

/// Looks where an output leads that speaks no HTTP of the client's, each time before something is sent there.
#[derive(Debug)]
pub(crate) struct Gate(String);

impl Gate {
    /// Where there is something to look for.
    pub(crate) fn of(output: &Output) -> Option<Self> {
        let place = match &output.to {
            To::Statsd { address } | To::Aggregator { address, .. } | To::Publish { address, .. } => address,
            To::Otlp { url, .. } => url,
            _ => return None,
        };
        (output.reach == Reach::NoMetadata).then(|| Self(place.clone()))
    }

    /// Whether all that the name leads to is within reach. A name that leads nowhere is for whoever sends.
    pub(crate) async fn check(&self) -> Result<(), String> {
        let after_scheme = self.0.split_once("://").map_or(self.0.as_str(), |it| it.1);
        let host = after_scheme.split('/').next().unwrap_or_default();
        let has_port = host.rsplit_once(':').is_some_and(|it| it.1.parse::<u16>().is_ok());
        let place = if has_port { host.to_owned() } else { format!("{host}:1") };
        let found = tokio::net::lookup_host(place).await.map(Iterator::collect::<Vec<_>>);
        let is_within = |it: &SocketAddr| Reach::NoMetadata.allows(it.ip());
        if found.unwrap_or_default().iter().all(is_within) { Ok(()) } else { Err(out_of_reach(host)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_name_leads_to_what_is_within_reach_alone() {
        // A literal is looked up as a name is, which stands in for a name server that a stranger has.
        let found = |name: &'static str, reach| async move {
            let all = Resolver(reach).resolve(name.parse().unwrap()).await;
            all.map(|it| it.map(|it| it.ip().to_string()).collect::<Vec<_>>()).map_err(|it| it.to_string())
        };
        let refused = found("169.254.169.254", Reach::NoMetadata).await.unwrap_err();
        assert!(refused.contains("169.254.169.254 leads to link-local"), "{refused}");
        assert_eq!(found("169.254.169.254", Reach::Anywhere).await.unwrap(), ["169.254.169.254"]);
        assert_eq!(found("127.0.0.1", Reach::NoMetadata).await.unwrap(), ["127.0.0.1"]);
        for (place, is_within) in [
            ("http://169.254.169.254:4317/x", false),
            ("https://169.254.169.254", false),
            ("169.254.169.254:8125", false),
            ("[fe80::1%1]:8125", false),
            ("[fd00:ec2::254]:80", false),
            ("127.0.0.1:8125", true),
            ("no-such-name.invalid:1", true),
        ] {
            assert_eq!(Gate(place.to_owned()).check().await.is_ok(), is_within, "{place}");
        }
    }
}
