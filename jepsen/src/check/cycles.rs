//! Cycles among transactions over lists, without a look at any revision: every
//! element is appended once, so what the reads show gives the order of the
//! appends to each list, and from it which transaction came before which. Real
//! time adds its own order. A cycle of such steps cannot be.
//!
//! As in Adya's and Elle's list-append; the edges are those of strict
//! serializability.

use super::Finding;
use crate::clock::Nanos;
use crate::history::History;
use crate::history::op::{Load, Op, Outcome, Reply, Request, TxnOp, TxnOpReply, TxnReq};
use std::collections::{BTreeMap, HashMap};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Why {
    /// The later one appended after the earlier one's element.
    Appended,
    /// The later one read the earlier one's element.
    Read,
    /// The earlier one did not see the later one's element.
    Missed,
    /// The earlier one ended before the later one began.
    Time,
}

impl Why {
    fn text(self) -> &'static str {
        match self {
            Why::Appended => "appended before",
            Why::Read => "was read by",
            Why::Missed => "did not see",
            Why::Time => "ended before",
        }
    }
}

/// A transaction that took effect, or may have.
struct Node<'a> {
    op: &'a Op,
    /// Elements appended, by list.
    appends: Vec<(&'a str, &'a str)>,
    reads: Vec<(&'a str, Vec<&'a str>)>,
}

pub fn check(history: &History) -> Finding {
    let mut finding = Finding::new("cycles");
    let nodes: Vec<Node<'_>> = history
        .ops
        .iter()
        .filter(|op| op.load == Load::Append)
        .filter_map(node)
        .collect();
    let orders = orders(&nodes, &mut finding);
    let graph = graph(&nodes, &orders);
    let edges: usize = graph.iter().map(Vec::len).sum();
    if let Some(cycle) = cycle(&graph, nodes.len()) {
        report(&nodes, &graph, &cycle, &mut finding);
    }
    finding.summary = format!(
        "transactions={} lists={} edges={edges}",
        nodes.len(),
        orders.len()
    );
    finding.rests_on("transactions", nodes.len());
    finding
}

fn node(op: &Op) -> Option<Node<'_>> {
    let Request::Txn(txn) = &op.req else {
        return None;
    };
    match &op.out {
        Outcome::Ok {
            reply: Reply::Txn(reply),
            ..
        } => {
            let branch = if reply.succeeded {
                &txn.then
            } else {
                &txn.or_else
            };
            let reads = branch.iter().zip(&reply.replies).filter_map(|(o, r)| {
                let (TxnOp::Range(q), TxnOpReply::Range(r)) = (o, r) else {
                    return None;
                };
                let list = r
                    .kvs
                    .first()
                    .map_or(Vec::new(), |kv| kv.value.split(',').collect());
                Some((q.key.as_str(), list))
            });
            Some(Node {
                op,
                reads: reads.collect(),
                appends: if reply.succeeded {
                    appends(txn)
                } else {
                    Vec::new()
                },
            })
        }
        Outcome::Unknown { .. } => Some(Node {
            op,
            reads: Vec::new(),
            appends: appends(txn),
        }),
        Outcome::Ok { .. } | Outcome::Fail { .. } => None,
    }
}

fn appends(txn: &TxnReq) -> Vec<(&str, &str)> {
    let puts = txn.then.iter().filter_map(|op| match op {
        TxnOp::Put(put) => Some((put.key.as_str(), put.value.split(',').next_back()?)),
        _ => None,
    });
    puts.collect()
}

/// The longest reading of each list. Every other one must be its beginning.
fn orders<'a>(nodes: &[Node<'a>], finding: &mut Finding) -> BTreeMap<&'a str, Vec<&'a str>> {
    let mut longest: BTreeMap<&str, (&Vec<&'a str>, u64)> = BTreeMap::new();
    let mut result = BTreeMap::new();
    for node in nodes {
        for (list, read) in &node.reads {
            let entry = longest.entry(list).or_insert((read, node.op.id));
            if read.len() > entry.0.len() {
                *entry = (read, node.op.id);
            }
        }
    }
    for node in nodes {
        for (list, read) in &node.reads {
            if let Some((long, by)) = longest.get(list)
                && !long.starts_with(read)
            {
                finding.violation(
                    format!("list {list:?} was read as {read:?} and as {long:?}: neither is the beginning of the other"),
                    &[node.op.id, *by],
                );
            }
        }
    }
    for (list, (read, _)) in longest {
        // The key borrows from the history, not from the nodes.
        let key = nodes
            .iter()
            .flat_map(|n| &n.reads)
            .find(|(l, _)| *l == list)
            .map(|(l, _)| *l);
        if let Some(key) = key {
            result.insert(key, read.clone());
        }
    }
    result
}

type Graph = Vec<Vec<(usize, Why)>>;

/// Nodes from `nodes.len()` on are moments: a transaction that ended leads to
/// the next moment, a moment to the next one and to what begins after it. That
/// keeps the edges of real time few.
fn graph(nodes: &[Node<'_>], orders: &BTreeMap<&str, Vec<&str>>) -> Graph {
    let mut writer: HashMap<(&str, &str), usize> = HashMap::new();
    for (i, node) in nodes.iter().enumerate() {
        for append in &node.appends {
            writer.insert(*append, i);
        }
    }
    let mut graph: Graph = vec![Vec::new(); 2 * nodes.len()];
    let mut edge = |from: Option<&usize>, to: Option<&usize>, why| {
        if let (Some(&from), Some(&to)) = (from, to)
            && from != to
        {
            graph[from].push((to, why));
        }
    };
    for (list, order) in orders {
        for pair in order.windows(2) {
            let (a, b) = (writer.get(&(*list, pair[0])), writer.get(&(*list, pair[1])));
            edge(a, b, Why::Appended);
        }
    }
    for (i, node) in nodes.iter().enumerate() {
        for (list, read) in &node.reads {
            if let Some(last) = read.last() {
                edge(writer.get(&(*list, *last)), Some(&i), Why::Read);
            }
            let next = orders.get(list).and_then(|order| order.get(read.len()));
            if let Some(next) = next {
                edge(Some(&i), writer.get(&(*list, *next)), Why::Missed);
            }
        }
    }
    time(nodes, &mut graph);
    graph
}

fn time(nodes: &[Node<'_>], graph: &mut Graph) {
    let known = |node: &Node<'_>| node.op.revision().is_some();
    let mut ends: Vec<(Nanos, usize)> = nodes
        .iter()
        .enumerate()
        .filter(|(_, n)| known(n))
        .map(|(i, n)| (n.op.end, i))
        .collect();
    ends.sort_unstable();
    let first = nodes.len();
    for (moment, (_, i)) in ends.iter().enumerate() {
        graph[*i].push((first + moment, Why::Time));
        if moment + 1 < ends.len() {
            graph[first + moment].push((first + moment + 1, Why::Time));
        }
    }
    for (i, node) in nodes.iter().enumerate() {
        let before = ends.partition_point(|(end, _)| *end < node.op.start);
        if let Some(moment) = before.checked_sub(1) {
            graph[first + moment].push((i, Why::Time));
        }
    }
}

/// A shortest cycle through some transaction, if there is any cycle.
fn cycle(graph: &Graph, nodes: usize) -> Option<Vec<usize>> {
    let component = components(graph);
    let mut sizes: HashMap<usize, usize> = HashMap::new();
    component
        .iter()
        .for_each(|c| *sizes.entry(*c).or_default() += 1);
    let start = (0..nodes).find(|i| sizes[&component[*i]] > 1)?;
    let mut from: HashMap<usize, usize> = HashMap::new();
    let mut queue = std::collections::VecDeque::from([start]);
    while let Some(at) = queue.pop_front() {
        for (to, _) in &graph[at] {
            if component[*to] != component[start] {
                continue;
            }
            if *to == start {
                let mut path = vec![at];
                while let Some(before) = from.get(&path[path.len() - 1]) {
                    path.push(*before);
                }
                path.reverse();
                return Some(path);
            }
            if !from.contains_key(to) {
                from.insert(*to, at);
                queue.push_back(*to);
            }
        }
    }
    None
}

/// Strongly connected components, by Tarjan's algorithm without recursion:
/// which component each node is in.
fn components(graph: &Graph) -> Vec<usize> {
    const NEW: usize = usize::MAX;
    let n = graph.len();
    let (mut index, mut low) = (vec![NEW; n], vec![0; n]);
    let (mut component, mut stack) = (vec![NEW; n], Vec::new());
    let (mut next, mut count) = (0, 0);
    for root in 0..n {
        if index[root] != NEW {
            continue;
        }
        let mut work = vec![(root, 0)];
        while let Some((v, edge)) = work.pop() {
            if edge == 0 {
                index[v] = next;
                low[v] = next;
                next += 1;
                stack.push(v);
            }
            if let Some((to, _)) = graph[v].get(edge) {
                work.push((v, edge + 1));
                if index[*to] == NEW {
                    work.push((*to, 0));
                } else if component[*to] == NEW {
                    low[v] = low[v].min(index[*to]);
                }
                continue;
            }
            if low[v] == index[v] {
                while let Some(member) = stack.pop() {
                    component[member] = count;
                    if member == v {
                        break;
                    }
                }
                count += 1;
            }
            if let Some((parent, _)) = work.last() {
                low[*parent] = low[*parent].min(low[v]);
            }
        }
    }
    component
}

fn report(nodes: &[Node<'_>], graph: &Graph, cycle: &[usize], finding: &mut Finding) {
    let mut text = String::new();
    let mut ids = Vec::new();
    for (i, &from) in cycle.iter().enumerate() {
        let to = cycle[(i + 1) % cycle.len()];
        let Some(node) = nodes.get(from) else {
            continue;
        };
        ids.push(node.op.id);
        let why = graph[from].iter().find(|(t, _)| *t == to).map(|(_, w)| w);
        text.push_str(&format!(
            "{} {} ",
            node.op.id,
            why.map_or("?", |why| why.text())
        ));
    }
    let first = ids.first().copied().unwrap_or(0);
    finding.violation(format!("a cycle of transactions: {text}{first}"), &ids);
}
