"""Starting a command on many hosts, with the launchers that are there: imported as `jaxmerge.launch`."""
