//! Who is polled for what: one unit for each API of each system, VDC or node.

use std::sync::Arc;
use std::time::Duration;

use outrider_protocol::collect::apis::{Api, ApiGroup, Bounds, Fact, Level, Login, System};
use reqwest::Url;

use super::StartError;
use super::ask::Asker;
use super::facts::Facts;
use super::http::Http;
use super::mapping::Mapper;
use super::node::{Bucket, NodeState};
use super::place::Names;
use super::session::Session;
use crate::model::{Source, Tags};

/// How long a program may take for one answer.
const PROGRAM_TIME: Duration = Duration::from_secs(10);

/// How long a node that asks to be left alone is waited for at least, and at most.
const PATIENCE: Duration = Duration::from_secs(30);
const PATIENCE_MOST: Duration = Duration::from_secs(600);

/// What is polled by one worker.
#[derive(Debug)]
pub(crate) struct Unit {
    /// Group, system, VDC or node, and API: tells it from all others.
    pub(crate) key: String,
    pub(crate) api: Api,
    pub(crate) mapper: Arc<Mapper>,
    pub(crate) asker: Asker,
    pub(crate) names: Names,
    /// Of whom it is, as the configuration says.
    source: Arc<Source>,
    /// What its VDC says of itself.
    pub(crate) facts: Option<Arc<Facts>>,
    /// The node that it is of.
    node: Option<Arc<NodeState>>,
    /// How long its program may take for one answer.
    pub(crate) program_time: Duration,
    /// Locked while events are made on a thread.
    pub(crate) running: Arc<tokio::sync::Mutex<()>>,
}

impl Unit {
    /// Of whom it is, as far as is known. What the configuration says wins.
    pub(crate) fn source(&self) -> Arc<Source> {
        let found = self.facts.as_ref().map(|it| it.tags(self.node.as_deref())).unwrap_or_default();
        let new: Vec<_> = found.into_iter().filter(|it| self.source.tags.get(&it.0).is_none()).collect();
        if new.is_empty() {
            return Arc::clone(&self.source);
        }
        let known = self.source.tags.iter().map(|it| (it.name.to_string(), it.value.to_string()));
        let tags = Tags::new(known.chain(new));
        Arc::new(Source { key: self.source.key.clone(), tags })
    }
}

/// Of which VDC, and of which node in it.
type Place = (Option<usize>, Option<usize>);

/// All units, and all nodes with the clients that ask them.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    pub(crate) units: Vec<Unit>,
    pub(crate) nodes: Vec<(Http, Arc<NodeState>)>,
    /// What VDCs say of themselves, for all units of each.
    pub(crate) facts: Vec<Arc<Facts>>,
    /// How long a node is waited for that asks to be left alone; as long as is good for each API where there is none.
    pub(crate) patience: Option<Duration>,
}

/// Where the next poll comes soon it may bring what this one cannot. Where that is long to wait this one had better.
fn patience(api: &Api) -> Duration {
    Duration::from_millis(api.interval_ms).clamp(PATIENCE, PATIENCE_MOST)
}

impl Plan {
    pub(crate) fn add(&mut self, group: &ApiGroup, tags: &[(String, String)]) -> Result<(), StartError> {
        let wrong = |what: String| StartError { group: group.name.clone(), what };
        let http = Http::new(&group.tls, &group.bounds, group.reach).map_err(wrong)?;
        let mut mappers = Vec::new();
        for api in &group.apis {
            let mapper = Mapper::new(&api.mapping)
                .map_err(|it| wrong(format!("the API {:?}: `jq`: {it}", api.name)))?;
            mappers.push(Arc::new(mapper));
        }
        for system in &group.systems {
            let nodes = nodes(&group.name, system).map_err(wrong)?;
            self.nodes.extend(nodes.iter().map(|it| (http.clone(), Arc::clone(it))));
            let of = Of { group: &group.name, system, common: tags };
            let bucket = Arc::new(Bucket::new(&group.bounds));
            let facts: Vec<_> = (0..system.vdcs.len())
                .map(|vdc| {
                    let of_vdc = nodes.iter().filter(|it| it.vdc == vdc).cloned().collect();
                    let asker = Asker {
                        http: http.clone(),
                        // A node that gives no answer to this may give one to what is polled.
                        bounds: Bounds { block_ms: 0, ..group.bounds },
                        bucket: Arc::clone(&bucket),
                        nodes: of_vdc,
                        first_first: false,
                        patience: self.patience.unwrap_or(PATIENCE),
                    };
                    (!group.facts.is_empty()).then(|| Arc::new(of.facts(&group.facts, vdc, asker)))
                })
                .collect();
            self.facts.extend(facts.iter().flatten().cloned());
            for (api, mapper) in group.apis.iter().zip(&mappers) {
                for place in places(system, api.level) {
                    let (mut asked, first_first) = asked(&nodes, place, api);
                    if let Level::Dtinfo { port } = api.level {
                        asked = doors(&asked, port).map_err(wrong)?;
                    }
                    let asker = Asker {
                        http: http.clone(),
                        bounds: group.bounds,
                        bucket: Arc::clone(&bucket),
                        nodes: asked,
                        first_first,
                        patience: self.patience.unwrap_or_else(|| patience(api)),
                    };
                    let facts = place.0.and_then(|vdc| facts[vdc].clone());
                    self.units.push(of.unit(api, mapper, place, asker, facts));
                }
            }
        }
        Ok(())
    }
}

fn nodes(group: &str, system: &System) -> Result<Vec<Arc<NodeState>>, String> {
    let mut all = Vec::new();
    for (at, vdc) in system.vdcs.iter().enumerate() {
        let key = format!("{group}/{}/{}", system.name, vdc.name);
        for node in &vdc.nodes {
            let url = Url::parse(&node.url).map_err(|err| format!("{:?} is no address ({err})", node.url))?;
            let shown = || {
                let port = url.port().map(|it| format!(":{it}")).unwrap_or_default();
                format!("{}{port}", url.host_str().unwrap_or_default())
            };
            let name = node.name.clone().unwrap_or_else(shown);
            let id = node.id.clone().unwrap_or_else(|| name.clone());
            let session = Session::new(system.login.clone());
            all.push(Arc::new(NodeState::new((at, &key), url, id, name, session)));
        }
    }
    Ok(all)
}

/// The same nodes at another port, in plain HTTP: what is there knows no login, so no secret goes there. What hangs there, or
/// asks to be left alone, says nothing of what is at their own.
fn doors(nodes: &[Arc<NodeState>], port: u16) -> Result<Vec<Arc<NodeState>>, String> {
    let door = |node: &Arc<NodeState>| {
        let mut url = node.url.clone();
        let plain = url.set_scheme("http").and_then(|()| url.set_port(Some(port)));
        plain.map_err(|()| format!("the address of {} takes no port", node.name))?;
        url.set_path("");
        Ok(Arc::new(node.at(url, Session::new(Login::None))))
    };
    nodes.iter().map(door).collect()
}

/// The places that an API has in a system. Nodes are counted through all VDCs.
fn places(system: &System, level: Level) -> Vec<Place> {
    match level {
        Level::System | Level::Dtinfo { .. } => vec![(None, None)],
        Level::Vdc => (0..system.vdcs.len()).map(|it| (Some(it), None)).collect(),
        Level::Node => {
            let vdcs = system.vdcs.iter().enumerate();
            let all = vdcs.flat_map(|(at, vdc)| std::iter::repeat_n(at, vdc.nodes.len()));
            all.enumerate().map(|(node, vdc)| (Some(vdc), Some(node))).collect()
        }
    }
}

/// Who may answer, and whether the first of them is to.
fn asked(nodes: &[Arc<NodeState>], place: Place, api: &Api) -> (Vec<Arc<NodeState>>, bool) {
    let of_vdc = |vdc: usize| nodes.iter().filter(move |it| it.vdc == vdc).cloned();
    match place {
        (Some(vdc), Some(at)) => {
            let others = of_vdc(vdc).filter(|it| api.any_node && !Arc::ptr_eq(it, &nodes[at]));
            (std::iter::once(Arc::clone(&nodes[at])).chain(others).collect(), true)
        }
        (Some(vdc), None) => (of_vdc(vdc).collect(), false),
        _ => (nodes.to_vec(), false),
    }
}

/// What all units of a system have in common.
struct Of<'p> {
    group: &'p str,
    system: &'p System,
    common: &'p [(String, String)],
}

impl Of<'_> {
    fn facts(&self, facts: &[Fact], vdc: usize, asker: Asker) -> Facts {
        let vdc = &self.system.vdcs[vdc].name;
        let names = vec![("system.name", self.system.name.clone()), ("vdc.name", vdc.clone())];
        let key = format!("{}/{}/{vdc}/facts", self.group, self.system.name);
        let good = Duration::from_millis(self.system.facts_interval_ms);
        Facts::new(key, facts, asker, Names(names), good)
    }

    fn unit(
        &self,
        api: &Api,
        mapper: &Arc<Mapper>,
        place: Place,
        asker: Asker,
        facts: Option<Arc<Facts>>,
    ) -> Unit {
        let Self { group, system, common } = self;
        let vdc = place.0.map(|at| &system.vdcs[at]);
        let node = place.1.map(|_| Arc::clone(&asker.nodes[0]));
        let mut names = vec![("system.name", system.name.clone())];
        let mut tags: Vec<(String, String)> = common.iter().chain(&system.tags).cloned().collect();
        tags.push(("system".to_owned(), system.name.clone()));
        let mut key = format!("{group}/{}", system.name);
        if let Some(vdc) = vdc {
            tags.extend(vdc.tags.iter().cloned());
            tags.push(("vdc".to_owned(), vdc.name.clone()));
            names.push(("vdc.name", vdc.name.clone()));
            key = format!("{key}/{}", vdc.name);
        }
        if let Some(node) = &node {
            tags.push(("node".to_owned(), node.name.clone()));
            if node.id != node.name {
                tags.push(("node_id".to_owned(), node.id.clone()));
            }
            names.extend([("node.id", node.id.clone()), ("node.name", node.name.clone())]);
            key = format!("{key}/{}", node.url.as_str().trim_end_matches('/'));
        }
        let key = format!("{key}/{}", api.name);
        let source = Source { key: format!("api:{key}").into(), tags: Tags::new(tags) };
        Unit {
            key,
            api: api.clone(),
            mapper: Arc::clone(mapper),
            asker,
            names: Names(names),
            source: Arc::new(source),
            facts,
            node,
            program_time: PROGRAM_TIME,
            running: Arc::default(),
        }
    }
}
