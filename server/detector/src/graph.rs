//! A network as a graph of operations, and the loop that runs it.
//!
//! Nodes are stored in the order in which they are computed. The caller supplies the function that applies an
//! operation: to tensors in a forward pass, or to shapes when the network is checked.

use std::collections::BTreeMap;

/// Identifies a feature map: the graph's input, or the output of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct MapId(usize);

impl MapId {
    /// The graph's input.
    pub(super) const INPUT: Self = Self(0);

    /// The output of the last of `nodes` nodes.
    pub(super) fn after(nodes: usize) -> Self {
        Self(nodes)
    }
}

/// An operation, and the feature maps that it reads.
#[derive(Debug, Clone)]
pub(super) struct Node<O> {
    pub operation: O,
    pub inputs: Vec<MapId>,
}

/// Operations in the order in which they are computed.
#[derive(Debug, Clone)]
pub(super) struct Graph<O> {
    nodes: Vec<Node<O>>,
    outputs: Vec<MapId>,
    /// For each node, the feature maps that no later node reads.
    finished: Vec<Vec<MapId>>,
}

impl<O> Graph<O> {
    /// A graph of these nodes. `outputs` are the feature maps that a run returns, each listed once.
    ///
    /// # Panics
    /// If a node reads a feature map that is not computed before it.
    pub(super) fn new(nodes: Vec<Node<O>>, outputs: Vec<MapId>) -> Self {
        let mut last_reader = vec![None; nodes.len() + 1];
        for (index, node) in nodes.iter().enumerate() {
            for &MapId(input) in &node.inputs {
                assert!(input <= index, "a node reads earlier feature maps only");
                last_reader[input] = Some(index);
            }
        }
        let mut finished = vec![Vec::new(); nodes.len()];
        for (map, reader) in last_reader.into_iter().enumerate() {
            if let Some(reader) = reader
                && !outputs.contains(&MapId(map))
            {
                finished[reader].push(MapId(map));
            }
        }
        Self {
            nodes,
            outputs,
            finished,
        }
    }

    /// A graph of nodes of an earlier one, in their order: each with the feature map that it computes there. Nodes read, and
    /// `outputs` are, feature maps of the earlier graph.
    ///
    /// # Panics
    /// If a node, or the outputs, name a feature map that is not computed before.
    pub(super) fn rebuild(
        nodes: impl IntoIterator<Item = (MapId, Node<O>)>,
        outputs: &[MapId],
    ) -> Self {
        let mut renamed = BTreeMap::from([(MapId::INPUT, MapId::INPUT)]);
        let mut rebuilt = Vec::new();
        for (map, mut node) in nodes {
            for input in &mut node.inputs {
                *input = renamed[input];
            }
            rebuilt.push(node);
            renamed.insert(map, MapId::after(rebuilt.len()));
        }
        Self::new(rebuilt, outputs.iter().map(|map| renamed[map]).collect())
    }

    /// Each node, with the feature map that it computes.
    pub(super) fn nodes(&self) -> impl Iterator<Item = (MapId, &Node<O>)> {
        (1..).map(MapId).zip(&self.nodes)
    }

    /// Like [`nodes`](Self::nodes), by value.
    pub(super) fn into_nodes(self) -> impl Iterator<Item = (MapId, Node<O>)> {
        (1..).map(MapId).zip(self.nodes)
    }

    /// The feature maps that a run returns.
    pub(super) fn outputs(&self) -> &[MapId] {
        &self.outputs
    }

    /// The node that computes a feature map; `None` for the input.
    pub(super) fn node(&self, MapId(map): MapId) -> Option<&Node<O>> {
        Some(&self.nodes[map.checked_sub(1)?])
    }

    /// How often a feature map is read. An output of the graph counts as one read.
    pub(super) fn readers(&self, map: MapId) -> usize {
        let inputs = self.nodes.iter().flat_map(|node| &node.inputs);
        inputs
            .chain(&self.outputs)
            .filter(|&&read| read == map)
            .count()
    }

    /// Applies every operation to its inputs, and returns the outputs in order. `apply` also gets the id of the
    /// feature map that it computes. A feature map is dropped as soon as no later node reads it.
    ///
    /// # Errors
    /// The first error of `apply`.
    pub(super) fn run<V, E>(
        &self,
        input: V,
        mut apply: impl FnMut(MapId, &O, &[&V]) -> Result<V, E>,
    ) -> Result<Vec<V>, E> {
        let mut maps = Vec::with_capacity(self.nodes.len() + 1);
        maps.push(Some(input));
        for (node, finished) in self.nodes.iter().zip(&self.finished) {
            let still_read = |&MapId(map): &MapId| maps[map].as_ref().expect("a map still read");
            let inputs: Vec<&V> = node.inputs.iter().map(still_read).collect();
            let output = apply(MapId(maps.len()), &node.operation, &inputs)?;
            maps.push(Some(output));
            for &MapId(map) in finished {
                maps[map] = None;
            }
        }
        let outputs = self.outputs.iter();
        Ok(outputs.filter_map(|&MapId(map)| maps[map].take()).collect())
    }
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use super::*;

    /// 1 + input, doubled, and the sum of both.
    fn graph() -> Graph<&'static str> {
        let node = |operation, inputs: &[usize]| Node {
            operation,
            inputs: inputs.iter().copied().map(MapId).collect(),
        };
        let nodes = vec![
            node("increment", &[0]),
            node("double", &[1]),
            node("add", &[2, 1]),
        ];
        Graph::new(nodes, vec![MapId(3)])
    }

    #[test]
    fn each_operation_gets_the_feature_maps_that_it_reads() {
        let apply = |_, operation: &&str, inputs: &[&i64]| match *operation {
            "increment" => Ok::<_, ()>(inputs[0] + 1),
            "double" => Ok(inputs[0] * 2),
            _ => Ok(inputs[0] + inputs[1]),
        };
        assert_eq!(graph().run(4, apply), Ok(vec![15]));
        assert_eq!(graph().readers(MapId(1)), 2);
    }

    #[test]
    fn a_feature_map_is_dropped_after_its_last_reader() {
        let (input, mut alive) = (Rc::new(()), Vec::new());
        let mut maps = vec![Rc::downgrade(&input)];
        graph()
            .run(input, |_, _, _| {
                alive.push(maps.iter().filter(|map| map.strong_count() > 0).count());
                let map = Rc::new(());
                maps.push(Rc::downgrade(&map));
                Ok::<_, ()>(map)
            })
            .unwrap();
        // The input is gone when the second operation begins.
        assert_eq!(alive, [1, 1, 2]);
    }
}
