"""The tests. A package, because robustbench installs one of this name, which would come first."""
