// The whole image of a test pod, as one static program: "pause" (the sandbox), and "answer SECONDS", which after so
// many seconds answers datagrams on port 7007 with the pod's name, from the address that was asked, and accepts TCP
// connections on port 7008 (for a readiness probe). "addresses" prints the pod's interfaces, for kubectl exec.
package main

import (
	"fmt"
	"net"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"
	"unsafe"
)

const (
	datagrams = ":7007"
	readiness = ":7008"
	head      = 16 // bytes of a question that its answer repeats (lab/packets.py)
)

func main() {
	signal.Ignore(syscall.SIGCHLD) // as process 1 of a pod it is nobody's task to wait for orphans
	ended := make(chan os.Signal, 1)
	signal.Notify(ended, syscall.SIGTERM, syscall.SIGINT)
	verb := "pause"
	if len(os.Args) > 1 {
		verb = os.Args[1]
	}
	switch verb {
	case "pause":
	case "answer":
		go answer(os.Args[2:])
	case "addresses":
		addresses()
		return
	default:
		fail(fmt.Errorf("unknown verb %q", verb))
	}
	<-ended
}

func answer(arguments []string) {
	if len(arguments) > 0 {
		seconds, err := strconv.ParseFloat(arguments[0], 64)
		if err != nil {
			fail(err)
		}
		time.Sleep(time.Duration(seconds * float64(time.Second)))
	}
	name, err := os.Hostname()
	if err != nil {
		fail(err)
	}
	for _, network := range []string{"udp4", "udp6"} {
		go answerDatagrams(listen(network), []byte(name))
	}
	listener, err := net.Listen("tcp", readiness)
	if err != nil {
		fail(err)
	}
	fmt.Println("answering")
	for {
		if connection, err := listener.Accept(); err == nil {
			connection.Close()
		}
	}
}

// listen opens a socket that learns to which of its addresses each datagram was sent.
func listen(network string) *net.UDPConn {
	address, err := net.ResolveUDPAddr(network, datagrams)
	if err != nil {
		fail(err)
	}
	socket, err := net.ListenUDP(network, address)
	if err != nil {
		fail(err)
	}
	raw, err := socket.SyscallConn()
	if err != nil {
		fail(err)
	}
	control := func(descriptor uintptr) {
		if network == "udp4" {
			err = syscall.SetsockoptInt(int(descriptor), syscall.IPPROTO_IP, syscall.IP_PKTINFO, 1)
		} else {
			err = syscall.SetsockoptInt(int(descriptor), syscall.IPPROTO_IPV6, syscall.IPV6_RECVPKTINFO, 1)
		}
	}
	if failed := raw.Control(control); failed != nil || err != nil {
		fail(fmt.Errorf("%v, %v", failed, err))
	}
	return socket
}

func answerDatagrams(socket *net.UDPConn, name []byte) {
	data, control := make([]byte, 2048), make([]byte, 256)
	for {
		n, controls, _, from, err := socket.ReadMsgUDP(data, control)
		if err != nil {
			continue
		}
		answerTo := control[:controls]
		sendFrom(answerTo)
		socket.WriteMsgUDP(append(append([]byte{}, data[:min(n, head)]...), name...), answerTo, from)
	}
}

// sendFrom turns "arrived at" into "send from": the same address, the interface left to routing.
func sendFrom(control []byte) {
	if len(control) < syscall.SizeofCmsghdr {
		return
	}
	body := control[syscall.CmsgLen(0):]
	switch header := (*syscall.Cmsghdr)(unsafe.Pointer(&control[0])); {
	case header.Level == syscall.IPPROTO_IP && header.Type == syscall.IP_PKTINFO:
		copy(body[4:8], body[8:12]) // ipi_spec_dst = ipi_addr
		clear(body[0:4])            // ipi_ifindex
		clear(body[8:12])
	case header.Level == syscall.IPPROTO_IPV6 && header.Type == syscall.IPV6_PKTINFO:
		clear(body[16:20]) // ipi6_ifindex
	}
}

func addresses() {
	interfaces, err := net.Interfaces()
	if err != nil {
		fail(err)
	}
	for _, one := range interfaces {
		held, err := one.Addrs()
		if err != nil {
			fail(err)
		}
		for _, address := range held {
			fmt.Println(one.Name, address)
		}
	}
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, "pod:", err)
	os.Exit(1)
}
